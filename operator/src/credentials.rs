//! The volume in which a pod finds a profile's credential.
//!
//! Invariant: pure; it names a Secret and the one key of it that is needed, or asks for a token.

use api::connection;
use api::profile::Credential;
use contract::names::IDENTITY_TOKEN;
use serde_json::{Value, json};

/// Life of a projected token in seconds; kubelet replaces it well before.
const TOKEN_SECONDS: u32 = 3600;

/// The volume, with files of this mode.
pub fn volume(name: &str, credential: &Credential, mode: u32) -> Value {
    if let Some(audience) = credential.audience() {
        let source =
            json!({"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": IDENTITY_TOKEN});
        let projected = json!({"sources": [{"serviceAccountToken": source}], "defaultMode": mode});
        return json!({"name": name, "projected": projected});
    }
    let (secret, key) = connection::secret(credential).unwrap_or_default();
    let items = json!([{"key": key, "path": key}]);
    json!({"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": mode}})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pod_gets_the_one_key_of_a_secret_or_a_token_for_the_kms_alone() {
        let of = |text: Value| volume("v", &serde_json::from_value(text).unwrap(), 0o440);
        let secret = of(json!({"appRole": {"roleId": "r", "secret": {"name": "s"}}}));
        let items = json!([{"key": "secretId", "path": "secretId"}]);
        assert_eq!(secret["secret"], json!({"secretName": "s", "items": items, "defaultMode": 0o440}));
        let token = of(json!({"kubernetes": {"role": "r", "audience": "bao"}}));
        let source = json!({"audience": "bao", "expirationSeconds": TOKEN_SECONDS, "path": "token"});
        assert_eq!(token["projected"]["sources"], json!([{"serviceAccountToken": source}]));
    }
}
