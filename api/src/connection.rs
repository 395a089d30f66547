//! A profile's provider and credentials as the programs that connect take them.
//!
//! Invariant: pure; it names Secrets and files, never their content. A provider without a place here cannot be connected to.

use contract::config::{AwsKms, AzureKeyVault, Credential, GoogleKms, KeyProtect, Pkcs11, Provider, Transit};
use contract::names::{
    API_KEY_SECRET_KEY, AWS_KEYS_SECRET_KEY, CLIENT_SECRET_SECRET_KEY, GOOGLE_KEY_SECRET_KEY, IDENTITY_TOKEN,
    PIN_SECRET_KEY, SECRET_ID_SECRET_KEY, TOKEN_SECRET_KEY,
};

use crate::profile::{self, KmsProfileSpec};

/// Where the root key lives; `None`: this version does not know the provider.
pub fn provider(spec: &KmsProfileSpec) -> Option<Provider> {
    let providers = [
        spec.aws.as_deref().map(aws),
        spec.azure.as_deref().map(azure),
        spec.google.as_deref().map(google),
        spec.key_protect.as_deref().map(key_protect),
        spec.pkcs11.as_deref().map(pkcs11),
        spec.transit.as_deref().map(transit),
    ];
    providers.into_iter().flatten().next()
}

fn aws(spec: &profile::AwsKms) -> Provider {
    Provider::Aws(AwsKms {
        region: spec.region.clone(),
        endpoint: spec.endpoint.clone(),
        sts_endpoint: spec.sts_endpoint.clone(),
        key: spec.key.clone(),
    })
}

fn azure(spec: &profile::AzureKeyVault) -> Provider {
    Provider::Azure(AzureKeyVault {
        vault: spec.vault.clone(),
        login_endpoint: spec.login_endpoint.clone(),
        key: spec.key.clone(),
    })
}

fn google(spec: &profile::GoogleKms) -> Provider {
    Provider::Google(GoogleKms {
        endpoint: spec.endpoint.clone(),
        token_endpoint: spec.token_endpoint.clone(),
        sts_endpoint: spec.sts_endpoint.clone(),
        iam_endpoint: spec.iam_endpoint.clone(),
        key: spec.key.clone(),
    })
}

fn pkcs11(spec: &profile::Pkcs11) -> Provider {
    Provider::Pkcs11(Pkcs11 { module: spec.module.clone(), token: spec.token.clone(), key: spec.key.clone() })
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
        (credential.aws_keys_secret.as_ref(), AWS_KEYS_SECRET_KEY),
        (credential.azure_client_secret.as_ref().map(|one| &one.secret), CLIENT_SECRET_SECRET_KEY),
        (credential.google_key_secret.as_ref(), GOOGLE_KEY_SECRET_KEY),
        (credential.pin_secret.as_ref(), PIN_SECRET_KEY),
        (credential.token_secret.as_ref(), TOKEN_SECRET_KEY),
        (credential.app_role.as_ref().map(|role| &role.secret), SECRET_ID_SECRET_KEY),
    ];
    named.into_iter().find_map(|(secret, key)| Some((secret?.name.as_str(), key)))
}

/// A credential for a program that finds its Secret or token in `directory`; `None`: nothing is declared.
pub fn in_directory(credential: &profile::Credential, directory: &str) -> Option<Credential> {
    identity(credential, format!("{directory}/{IDENTITY_TOKEN}")).or_else(|| of_secret(credential, directory))
}

/// A credential that is a service account token.
fn identity(credential: &profile::Credential, token_path: String) -> Option<Credential> {
    if let Some(role) = &credential.aws_web_identity {
        return Some(Credential::AwsWebIdentity { role_arn: role.role_arn.clone(), token_path });
    }
    if let Some(application) = &credential.azure_federated {
        let (tenant_id, client_id) = (application.tenant_id.clone(), application.client_id.clone());
        return Some(Credential::AzureFederated { tenant_id, client_id, token_path });
    }
    if let Some(pool) = &credential.google_workload_identity {
        let audience = format!("//iam.googleapis.com/{}", pool.provider);
        let service_account = pool.service_account.clone();
        return Some(Credential::GoogleWorkloadIdentity { audience, service_account, token_path });
    }
    if let Some(role) = &credential.kubernetes {
        let (mount, role) = (role.mount.clone(), role.role.clone());
        return Some(Credential::Kubernetes { mount, role, token_path });
    }
    let trusted = credential.trusted_profile.as_ref()?;
    Some(Credential::TrustedProfile { profile_id: trusted.id.clone(), token_path })
}

/// A credential whose Secret lies in `directory`.
fn of_secret(credential: &profile::Credential, directory: &str) -> Option<Credential> {
    let (_, key) = secret(credential)?;
    let path = format!("{directory}/{key}");
    if let Some(application) = &credential.azure_client_secret {
        let (tenant_id, client_id) = (application.tenant_id.clone(), application.client_id.clone());
        return Some(Credential::AzureClientSecretFile { tenant_id, client_id, path });
    }
    if let Some(role) = &credential.app_role {
        let (mount, role_id) = (role.mount.clone(), role.role_id.clone());
        return Some(Credential::AppRole { mount, role_id, secret_id_path: path });
    }
    Some(match key {
        AWS_KEYS_SECRET_KEY => Credential::AwsKeysFile { path },
        GOOGLE_KEY_SECRET_KEY => Credential::GoogleKeyFile { path },
        PIN_SECRET_KEY => Credential::PinFile { path },
        TOKEN_SECRET_KEY => Credential::TokenFile { path },
        API_KEY_SECRET_KEY => Credential::ApiKeyFile { path },
        // A key without a credential of its own here is none, rather than another vendor's.
        _ => return None,
    })
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
            (json!({"awsKeysSecret": {"name": "s"}}), Some(("s", "credentials")), "/c/credentials"),
            (json!({"googleKeySecret": {"name": "s"}}), Some(("s", "key.json")), "/c/key.json"),
            (json!({"pinSecret": {"name": "s"}}), Some(("s", "pin")), "/c/pin"),
            (
                json!({"azureClientSecret": {"tenantId": "t", "clientId": "c", "secret": {"name": "s"}}}),
                Some(("s", "clientSecret")),
                "/c/clientSecret",
            ),
            (json!({"awsWebIdentity": {"roleArn": "arn:aws:iam::1:role/r"}}), None, "/c/token"),
            (json!({"azureFederated": {"tenantId": "t", "clientId": "c"}}), None, "/c/token"),
            (json!({"googleWorkloadIdentity": {"provider": "projects/1"}}), None, "/c/token"),
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
        for (field, spec) in [
            ("aws", json!({"region": "eu-central-1", "key": "three"})),
            ("azure", json!({"vault": "https://v.vault.azure.net", "key": "three"})),
            ("google", json!({"key": "three"})),
            ("pkcs11", json!({"module": "/m.so", "token": "t", "key": "three"})),
        ] {
            let spec = json!({field: spec, "credentials": credentials});
            assert_eq!(of(spec), Some("three".into()), "{field}");
        }
        assert_eq!(of(json!({"credentials": credentials})), None);
    }
}
