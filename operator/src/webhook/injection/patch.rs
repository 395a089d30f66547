//! The JSON patch (RFC 6902) that turns the pod of a request into the injected pod.
//!
//! Invariant: equal pods give an empty patch; only the fields that injection may change appear in it.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

/// The fields that injection may change, each replaced as a whole.
const FIELDS: [&[&str]; 6] = [
    &["metadata", "annotations"],
    &["metadata", "labels"],
    &["spec", "containers"],
    &["spec", "imagePullSecrets"],
    &["spec", "initContainers"],
    &["spec", "volumes"],
];

/// The patch from `before` to `after`.
pub fn between(before: &Value, after: &Value) -> Patch {
    let mut operations = vec![];
    for field in FIELDS {
        let pointer = PointerBuf::from_tokens(field.iter().copied());
        let text = format!("/{}", field.join("/"));
        let (was, is) = (before.pointer(&text), after.pointer(&text));
        if let Some(is) = is.filter(|is| was != Some(is)) {
            operations.push(PatchOperation::Add(AddOperation { path: pointer, value: is.clone() }));
        }
    }
    Patch(operations)
}
