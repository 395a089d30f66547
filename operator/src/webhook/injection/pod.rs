//! Reads and edits a pod's raw JSON, so that fields that no type of ours knows survive.
//!
//! Invariant: a list that is absent or null reads as empty; any other wrong shape is an error, never ignored.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// The lists of `spec` that hold containers.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// An object's field as a list of objects.
pub fn list<'a>(object: &'a Value, field: &'static str) -> Result<&'a [Value], Refusal> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(items),
        Some(_) => Err(Refusal::Malformed { field }),
    }
}

/// The same for changes; an absent list is made.
pub fn list_mut<'a>(object: &'a mut Value, field: &'static str) -> Result<&'a mut Vec<Value>, Refusal> {
    list(object, field)?;
    let entry = map_mut(object, "spec")?.entry(field).or_insert_with(|| Value::Array(vec![]));
    if entry.is_null() {
        *entry = Value::Array(vec![]);
    }
    entry.as_array_mut().ok_or(Refusal::Malformed { field })
}

/// A value that must be an object.
pub fn map_mut<'a>(value: &'a mut Value, field: &'static str) -> Result<&'a mut Map<String, Value>, Refusal> {
    value.as_object_mut().ok_or(Refusal::Malformed { field })
}

/// The pod's `spec`.
pub fn spec(pod: &Value) -> Result<&Value, Refusal> {
    pod.get("spec").filter(|spec| spec.is_object()).ok_or(Refusal::Malformed { field: "spec" })
}

/// The pod's `spec` for changes.
pub fn spec_mut(pod: &mut Value) -> Result<&mut Value, Refusal> {
    pod.get_mut("spec").filter(|spec| spec.is_object()).ok_or(Refusal::Malformed { field: "spec" })
}

/// Every container of the pod.
pub fn containers(spec: &Value) -> Result<Vec<&Value>, Refusal> {
    let mut all = vec![];
    for field in CONTAINER_LISTS {
        all.extend(list(spec, field)?);
    }
    Ok(all)
}

/// An object's `name`, or nothing.
pub fn name(object: &Value) -> &str {
    text(object, "/name").unwrap_or_default()
}

/// A string inside an object.
pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// Whether a field is the boolean `true`.
pub fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// A map of strings, such as labels.
pub fn strings(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let pairs = map.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
