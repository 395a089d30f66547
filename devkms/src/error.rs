//! What a refused call gets: the error body of the Key Protect API. Invariant: no message carries key material, a token or a plaintext.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// Reasons by the service's own code words, each with its HTTP status and a message of ours.
macro_rules! reasons {
    ($($(#[$meta:meta])* $variant:ident = $status:literal $code:literal $message:literal;)*) => {
        /// Why a call was refused, as the API names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$meta])* $variant),* }
        impl Reason {
            /// The HTTP status of this reason.
            pub fn status(self) -> u16 { match self { $(Self::$variant => $status),* } }
            /// The code word that clients match on.
            pub fn code(self) -> &'static str { match self { $(Self::$variant => $code),* } }
            fn message(self) -> &'static str { match self { $(Self::$variant => $message),* } }
        }
    };
}

reasons! {
    BadBody = 400 "BAD_BODY_ERR" "the body is not what this call takes";
    NoBody = 400 "NO_BODY_ERR" "this call needs a body";
    InvalidField = 400 "INVALID_FIELD_ERR" "a field has a value that is not allowed";
    CollectionTotal = 400 "COLLECTION_TOTAL_MISMATCH_ERR" "collectionTotal differs from the number of resources";
    QueryMismatch = 400 "BODY_QUERY_PARAM_MISMATCH_ERR" "the body holds another policy than the query names";
    KeyRootRequired = 400 "KEY_ROOT_REQ_ERR" "only a root key can do this";
    KeyPayloadRequired = 400 "KEY_PAYLOAD_REQ_ERR" "this root key was imported, so its owner brings the key material";
    KeyExpired = 400 "KEY_EXPIRED_ERR" "the key is past its expiration date";
    KeyRestoreExpired = 400 "KEY_RESTORE_EXPIRED" "the time in which the key could be restored is over";
    IncorrectNonce = 400 "INCORRECT_NONCE_ERR" "the encrypted nonce is not the nonce of the import token";
    IncorrectNonceIv = 400 "INCORRECT_NONCE_IV_ERR" "the encrypted nonce does not open with this key material and IV";
    BearerSubject = 400 "BEARER_SUB_EXTRACTION_ERR" "the bearer token has no readable subject";
    Unauthorized = 401 "UNAUTHORIZED_ERR" "the caller has no access to this resource";
    /// The same refusal under the status that some deployments use instead.
    Forbidden = 403 "UNAUTHORIZED_ERR" "the caller has no access to this resource";
    FeatureRestricted = 403 "FEATURE_RESTRICTED_ERR" "this instance does not offer this feature";
    KeyNotFound = 404 "KEY_NOT_FOUND_ERR" "no such key";
    ImportTokenNotFound = 404 "IMPORT_TOKEN_NOT_FOUND_ERR" "the instance has no import token";
    KeyRingNotFound = 404 "KEY_RING_NOT_FOUND_ERR" "no such key ring";
    AliasNotFound = 404 "KEY_ALIAS_NOT_FOUND_ERR" "the key has no such alias";
    RouteNotFound = 404 "NOT_FOUND_ERR" "no such path";
    KeyActionInvalidState = 409 "KEY_ACTION_INVALID_STATE_ERR" "the key's state does not allow this";
    TooEarly = 409 "REQ_TOO_EARLY_ERR" "the key changed a moment ago; wait and call again";
    RotationNotPermitted = 409 "KEY_ROTATION_NOT_PERMITTED" "the key was rotated within the last hour";
    ImportTokenExpired = 409 "IMPORT_TOKEN_EXPIRED_ERR" "the import token can no longer be used";
    AuthorizationsNotMet = 409 "AUTHORIZATIONS_NOT_MET" "another person has to authorize the deletion";
    NotDualAuth = 409 "NOT_DUAL_AUTH_ERR" "the key has no dual authorization policy";
    KeyCreateImportAccess = 409 "KEY_CREATE_IMPORT_ACCESS_ERR" "a policy of the instance does not allow this way of making a key";
    AliasNotUnique = 409 "KEY_ALIAS_NOT_UNIQUE_ERR" "the instance has that alias already";
    AliasLimit = 409 "KEY_ALIAS_LIMIT_ERR" "the key has as many aliases as it may have";
    KeyRingExists = 409 "KEY_RING_EXISTS_ERR" "the instance has that key ring already";
    KeyRingNotEmpty = 409 "KEY_RING_NOT_EMPTY_ERR" "the key ring holds keys";
    KeyDeleted = 410 "KEY_DELETED_ERR" "the key is deleted";
    UnprocessableCiphertext = 422 "UNPROCESSABLE_CIPHERTEXT_ERR" "the ciphertext is damaged, or belongs to another key or other authenticated data";
    /// The same refusal under the status that some deployments use instead.
    BadCiphertext = 400 "UNPROCESSABLE_CIPHERTEXT_ERR" "the ciphertext is damaged, or belongs to another key or other authenticated data";
    Internal = 500 "INTERNAL_ERR" "the server could not keep the change";
    NotOffered = 501 "NOT_IMPLEMENTED_ERR" "this server does not offer that part of the API";
}

/// A refusal: status, summary and, but for an unwrap with a deleted key, one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: u16,
    reason: Option<Reason>,
    field: Option<&'static str>,
}

impl From<Reason> for ApiError {
    fn from(reason: Reason) -> Self {
        Self { status: reason.status(), reason: Some(reason), field: None }
    }
}

impl ApiError {
    /// A field whose value is refused, named as the `target` of the reason.
    pub fn field(name: &'static str) -> Self {
        Self { field: Some(name), ..Reason::InvalidField.into() }
    }

    /// What an unwrap with a deleted key gets: 410 and no reasons at all.
    pub fn gone() -> Self {
        Self { status: 410, reason: None, field: None }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code word, for the audit trail.
    pub fn code(&self) -> &'static str {
        self.reason.map_or("GONE", Reason::code)
    }

    /// The reason itself; none for an unwrap with a deleted key.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// The JSON body, in the shape of `application/vnd.ibm.kms.error+json`.
    pub fn body(&self) -> Value {
        let name = self.status().canonical_reason().unwrap_or("Error");
        let mut resource = json!({});
        match self.reason {
            None => {
                resource["errorMsg"] =
                    json!(format!("{name}: the key has been deleted and its material is out of reach"));
            }
            Some(reason) => {
                resource["errorMsg"] = json!(format!("{name}: the call was refused, see `reasons`"));
                let mut entry = json!({
                    "code": reason.code(),
                    "message": reason.message(),
                    "status": self.status,
                    "moreInfo": "https://cloud.ibm.com/apidocs/key-protect",
                });
                if let Some(field) = self.field {
                    entry["target"] = json!({"type": "field", "name": field});
                }
                resource["reasons"] = json!([entry]);
            }
        }
        json!({
            "metadata": {"collectionType": "application/vnd.ibm.kms.error+json", "collectionTotal": 1},
            "resources": [resource],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_field_is_named_as_the_target() {
        let body = ApiError::field("plaintext").body();
        let reason = &body["resources"][0]["reasons"][0];
        assert_eq!(reason["code"], "INVALID_FIELD_ERR");
        assert_eq!(reason["status"], 400);
        assert_eq!(reason["target"], json!({"type": "field", "name": "plaintext"}));
    }

    #[test]
    fn an_unwrap_with_a_deleted_key_gives_no_reasons() {
        let error = ApiError::gone();
        assert_eq!(error.status(), StatusCode::GONE);
        assert!(error.body()["resources"][0].get("reasons").is_none());
        let message = error.body()["resources"][0]["errorMsg"].to_string();
        assert!(message.contains("Gone: "), "{message}");
    }
}
