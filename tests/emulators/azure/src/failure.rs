//! What the vault says when it does not do what it was asked. Invariant: the codes and their places are the vendor's.

use serde_json::{Value, json};

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The code of the inner error, which tells one 403 from another.
    pub(crate) inner: Option<&'static str>,
}

impl Failure {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), inner: None }
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    pub(crate) fn forbidden(inner: &'static str, message: impl Into<String>) -> Self {
        Self { inner: Some(inner), ..Self::new(403, "Forbidden", message) }
    }

    pub(crate) fn bad_parameter(message: &str) -> Self {
        Self::new(400, "BadParameter", message)
    }

    pub(crate) fn key_not_found(name: &str) -> Self {
        let message = format!(
            "A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may be able to \
             recover it using the correct recovery command."
        );
        Self::new(404, "KeyNotFound", message)
    }

    pub(crate) fn deleted_key_not_found(name: &str) -> Self {
        Self::new(404, "KeyNotFound", format!("Deleted Key not found: {name}"))
    }

    pub(crate) fn conflict(inner: &'static str, message: impl Into<String>) -> Self {
        Self { inner: Some(inner), ..Self::new(409, "Conflict", message) }
    }

    pub(crate) fn no_route() -> Self {
        Self::new(404, "NotFound", "There is nothing at this address.")
    }

    pub(crate) fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(inner) = self.inner {
            error["innererror"] = json!({"code": inner});
        }
        json!({"error": error})
    }
}
