//! Errors as the API writes them: `google.rpc.Status` in JSON.
//!
//! Invariant: the code of the body is the status of the answer.

use serde_json::{Value, json};

use crate::keys::State;

/// A refusal.
#[derive(Clone, Debug)]
pub struct Status {
    /// The status of the answer.
    pub http: u16,
    word: &'static str,
    message: String,
    details: Vec<Value>,
}

impl Status {
    fn new(http: u16, word: &'static str, message: impl Into<String>) -> Self {
        Self { http, word, message: message.into(), details: Vec::new() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(404, "NOT_FOUND", format!("{what} not found."))
    }

    pub fn exists(what: &str) -> Self {
        Self::new(409, "ALREADY_EXISTS", format!("{what} already exists."))
    }

    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(400, "FAILED_PRECONDITION", message)
    }

    /// A checksum that does not fit what it came with.
    pub fn checksum(field: &str) -> Self {
        Self::invalid(format!(
            "The checksum in field {field}_crc32c did not match the data in field {field}."
        ))
    }

    /// A version that is not enabled.
    pub fn version(name: &str, state: State) -> Self {
        let mut status =
            Self::precondition(format!("{name} is not enabled, current state is: {}.", state.as_str()));
        status.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
            "violations": [{"type": format!("KEY_{}", state.as_str()), "subject": name}],
        }));
        status
    }

    /// Whoever may not is not told whether there is anything.
    pub fn denied(permission: &str, resource: &str, service: &str) -> Self {
        let message =
            format!("Permission '{permission}' denied on resource '{resource}' (or it may not exist).");
        let mut status = Self::new(403, "PERMISSION_DENIED", message);
        let metadata = json!({"permission": permission, "resource": resource});
        status.details.push(info("IAM_PERMISSION_DENIED", service, &metadata));
        status
    }

    /// A token for other services than this one.
    pub fn scope(service: &str) -> Self {
        let message = "Request had insufficient authentication scopes.";
        let mut status = Self::new(403, "PERMISSION_DENIED", message);
        let metadata = json!({"service": service});
        status.details.push(info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "googleapis.com", &metadata));
        status
    }

    /// No token, one that ended, or one that never was.
    pub fn unauthenticated(reason: &str) -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
                       authentication credential.";
        let mut status = Self::new(401, "UNAUTHENTICATED", message);
        status.details.push(info(reason, "googleapis.com", &json!({"service": "cloudkms.googleapis.com"})));
        status
    }

    pub fn body(&self) -> Value {
        let mut error = json!({"code": self.http, "message": self.message, "status": self.word});
        if !self.details.is_empty() {
            error["details"] = self.details.clone().into();
        }
        json!({"error": error})
    }
}

fn info(reason: &str, domain: &str, metadata: &Value) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": metadata,
    })
}
