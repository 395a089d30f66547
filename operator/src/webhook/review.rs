//! Admission reviews (`admission.k8s.io/v1`) with the object as raw JSON, so that no field of it is lost.
//!
//! Invariant: every review is answered under the uid of its request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Value, json};

/// The API server's question.
#[derive(Clone, Debug, Deserialize)]
pub struct Review {
    /// Absent in answers only.
    pub request: Request,
}

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// To be repeated in the answer.
    pub uid: String,
    /// The object's kind, after conversion to what the webhook asked for.
    pub kind: Kind,
    /// The namespace of the request; the object's own may be empty.
    #[serde(default)]
    pub namespace: String,
    /// The object.
    #[serde(default)]
    pub object: Value,
}

/// A kind of objects.
#[derive(Clone, Debug, Deserialize)]
pub struct Kind {
    /// Its name.
    pub kind: String,
}

/// The answer: let it pass, perhaps changed.
pub fn allow(uid: &str, patch: &Patch, warnings: &[String]) -> Value {
    let mut response = json!({"uid": uid, "allowed": true});
    if !patch.0.is_empty() {
        let bytes = serde_json::to_vec(patch).expect("a patch is plain data");
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(bytes));
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    review(&response)
}

/// The answer: refused. `code` is the HTTP status that the client sees.
pub fn refuse(uid: &str, code: u16, message: &str) -> Value {
    let reason = if code == 403 { "Forbidden" } else { "InternalError" };
    review(&json!({
        "uid": uid,
        "allowed": false,
        "status": {"status": "Failure", "code": code, "reason": reason, "message": message},
    }))
}

fn review(response: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
