//! A profile's provider and credentials as the programs that connect take them.
//!
//! Invariant: pure; it names Secrets and files, never their content. A provider without a place here cannot be connected to.

use contract::config::{Credential, KeyProtect, Provider, Transit};
use contract::names::{API_KEY_SECRET_KEY, IDENTITY_TOKEN, SECRET_ID_SECRET_KEY, TOKEN_SECRET_KEY};

use crate::profile::{self, KmsProfileSpec};

/// Where the root key lives; `None`: this version does not know the provider.
pub fn provider(spec: &KmsProfileSpec) -> Option<Provider> {
    let key_protect = spec.key_protect.as_ref().map(key_protect);
    key_protect.or_else(|| spec.transit.as_ref().map(transit))
}

fn key_protect(spec: &profile::KeyProtect) -> Provider {
    Provider::KeyProtect(KeyProtect {
        endpoint: spec.endpoint.clone(),
        iam_endpoint: spec.iam_endpoint.clone(),
        instance: spec.instance.clone(),
        root_key: spec.root_key.clone(),
        key_ring: spec.key_ring.clone(),
    })
}

fn transit(spec: &profile::Transit) -> Provider {
    Provider::Transit(Transit {
        endpoint: spec.endpoint.clone(),
        namespace: spec.namespace.clone(),
        mount: spec.mount.clone(),
        key: spec.key.clone(),
    })
}

/// The Secret that a credential lies in, and the key there; `None`: it is a service account token, or nothing at all.
pub fn secret(credential: &profile::Credential) -> Option<(&str, &'static str)> {
    let named = [
        (credential.api_key_secret.as_ref(), API_KEY_SECRET_KEY),
        (credential.token_secret.as_ref(), TOKEN_SECRET_KEY),
        (credential.app_role.as_ref().map(|role| &role.secret), SECRET_ID_SECRET_KEY),
    ];
    named.into_iter().find_map(|(secret, key)| Some((secret?.name.as_str(), key)))
}

/// A credential for a program that finds its Secret or token in `directory`; `None`: nothing is declared.
pub fn in_directory(credential: &profile::Credential, directory: &str) -> Option<Credential> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

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
            let credential: profile::Credential = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(secret(&credential), name, "{text}");
            assert_eq!(in_directory(&credential, "/c").unwrap().path(), path, "{text}");
            assert_eq!(name.is_none(), credential.audience().is_some(), "{text}");
        }
        assert_eq!(in_directory(&serde_json::from_value(json!({})).unwrap(), "/c"), None);
    }

    #[test]
    fn a_profile_names_its_provider_or_none() {
        let of = |spec: serde_json::Value| {
            let spec: KmsProfileSpec = serde_json::from_value(spec).unwrap();
            provider(&spec).map(|provider| provider.root_key().to_owned())
        };
        let credentials = json!({"data": {"apiKeySecret": {"name": "s"}}});
        let key_protect = json!({"endpoint": "https://k", "instance": "i", "rootKey": "one"});
        let transit = json!({"endpoint": "https://k", "key": "two"});
        assert_eq!(of(json!({"keyProtect": key_protect, "credentials": credentials})), Some("one".into()));
        assert_eq!(of(json!({"transit": transit, "credentials": credentials})), Some("two".into()));
        assert_eq!(of(json!({"credentials": credentials})), None);
    }
}
