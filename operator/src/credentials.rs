//! What a declared credential is, for whoever needs its Secret, its token or its name in a pod.
//!
//! Invariant: pure; it names Secrets and files, never their content.

use api::profile::Credential as Declared;
use contract::config::Credential;
use contract::names::{API_KEY_SECRET_KEY, SECRET_ID_SECRET_KEY, TOKEN_SECRET_KEY};
use serde_json::{Value, json};

use crate::injection_config::IDENTITY_TOKEN;

/// Life of a projected token in seconds; kubelet replaces it well before.
const TOKEN_SECONDS: u32 = 3600;

/// The Secret that it lies in, and the key there; `None`: it is a service account token, or nothing at all.
pub fn secret(credential: &Declared) -> Option<(&str, &'static str)> {
    let named = [
        (credential.api_key_secret.as_ref(), API_KEY_SECRET_KEY),
        (credential.token_secret.as_ref(), TOKEN_SECRET_KEY),
        (credential.app_role.as_ref().map(|role| &role.secret), SECRET_ID_SECRET_KEY),
    ];
    named.into_iter().find_map(|(secret, key)| Some((secret?.name.as_str(), key)))
}

/// The same for a program that finds it in `directory`; `None`: nothing is declared.
pub fn in_directory(credential: &Declared, directory: &str) -> Option<Credential> {
    let path = |name: &str| format!("{directory}/{name}");
    if let Some(trusted) = &credential.trusted_profile {
        let profile_id = trusted.id.clone();
        return Some(Credential::TrustedProfile { profile_id, token_path: path(IDENTITY_TOKEN) });
    }
    if let Some(role) = &credential.kubernetes {
        let (mount, token_path) = (role.mount.clone(), path(IDENTITY_TOKEN));
        return Some(Credential::Kubernetes { mount, role: role.role.clone(), token_path });
    }
    if let Some(role) = &credential.app_role {
        return Some(Credential::AppRole {
            mount: role.mount.clone(),
            role_id: role.role_id.clone(),
            secret_id_path: path(SECRET_ID_SECRET_KEY),
        });
    }
    if credential.token_secret.is_some() {
        return Some(Credential::TokenFile { path: path(TOKEN_SECRET_KEY) });
    }
    credential.api_key_secret.as_ref().map(|_| Credential::ApiKeyFile { path: path(API_KEY_SECRET_KEY) })
}

/// The volume in which a pod finds it, with files of this mode.
pub fn volume(name: &str, credential: &Declared, mode: u32) -> Value {
    if let Some(audience) = credential.audience() {
        let source =
            json!({"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": IDENTITY_TOKEN});
        let projected = json!({"sources": [{"serviceAccountToken": source}], "defaultMode": mode});
        return json!({"name": name, "projected": projected});
    }
    let (secret, key) = secret(credential).unwrap_or_default();
    let items = json!([{"key": key, "path": key}]);
    json!({"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": mode}})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn declared(text: Value) -> Declared {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_secret_is_found_under_its_key_and_an_identity_token_needs_none() {
        for (text, name, path) in [
            (json!({"apiKeySecret": {"name": "s"}}), Some(("s", "apiKey")), "/c/apiKey"),
            (json!({"tokenSecret": {"name": "s"}}), Some(("s", "token")), "/c/token"),
            (
                json!({"appRole": {"roleId": "r", "secret": {"name": "s"}}}),
                Some(("s", "secretId")),
                "/c/secretId",
            ),
            (json!({"trustedProfile": {"id": "p"}}), None, "/c/token"),
            (json!({"kubernetes": {"role": "r"}}), None, "/c/token"),
        ] {
            let credential = declared(text.clone());
            assert_eq!(secret(&credential), name, "{text}");
            assert_eq!(in_directory(&credential, "/c").unwrap().path(), path, "{text}");
            let volume = volume("v", &credential, 0o440);
            if let Some((name, key)) = name {
                assert_eq!(volume["secret"]["secretName"], name, "{text}");
                assert_eq!(volume["secret"]["items"], json!([{"key": key, "path": key}]), "{text}");
            } else {
                let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
                assert_eq!(token["path"], IDENTITY_TOKEN, "{text}");
                assert_eq!(token["audience"], credential.audience().unwrap(), "{text}");
            }
        }
        assert_eq!(in_directory(&declared(json!({})), "/c"), None);
    }
}
