//! Connections to the KMS, one for each profile, made anew when the profile, its Secret or its CA bundle changes.
//!
//! Invariant: secrets are read from the API when they are needed and live only inside a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::KmsProfile;
use api::condition::reasons;
use api::profile::{CaBundle, Credential, KmsProfileSpec};
use contract::names::API_KEY_SECRET_KEY;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kms::admin::KmsAdmin;
use kms::{
    CaSource, CredentialSource, KeyProtectConfig, Kms, KmsError, Options, ProviderConfig, SecretString,
};
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};

/// Why a profile cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProfileProblem {
    /// Something in the cluster is missing or wrong; a person must act.
    #[error("{message}")]
    Declared {
        /// One of `api::condition::reasons`.
        reason: &'static str,
        /// For a person.
        message: String,
    },
    /// The API server did not answer.
    #[error("ask the API server")]
    Api(#[source] Arc<kube::Error>),
    /// The KMS did not answer, or refused.
    #[error("ask the KMS")]
    Kms(#[source] KmsError),
}

fn declared(reason: &'static str, message: impl Into<String>) -> ProfileProblem {
    ProfileProblem::Declared { reason, message: message.into() }
}

type Entry = ([u8; 32], Arc<dyn Kms>);

/// Open connections by profile.
pub struct Connections {
    /// IAM endpoints that may be shown the operator's own identity token.
    identity_endpoints: Vec<String>,
    open: Mutex<HashMap<(String, String), Entry>>,
}

impl Connections {
    /// None yet. The operator's identity token is shown to these IAM endpoints only: whoever writes a profile chooses its
    /// endpoint, and could otherwise have the token sent anywhere.
    pub fn new(identity_endpoints: Vec<String>) -> Self {
        Self { identity_endpoints, open: Mutex::default() }
    }

    /// The connection of a profile with its *data* credential; reads the Secret and the CA bundle each time, so that a
    /// change counts at once.
    pub async fn of(&self, client: &Client, profile: &KmsProfile) -> Result<Arc<dyn Kms>, ProfileProblem> {
        let namespace = profile.namespace().unwrap_or_default();
        check_identity_endpoint(&profile.spec, &profile.spec.credentials.data, &self.identity_endpoints)?;
        let ca = authority(client, &namespace, profile.spec.ca_bundle.as_ref()).await?;
        let secret = secret(client, &namespace, &profile.spec.credentials.data).await?;
        let config = config(&profile.spec, &profile.spec.credentials.data, ca)?;
        let digest = digest(&config, &secret);
        let at = (namespace, profile.name_any());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, connection)) = open.get(&at)
            && *known == digest
        {
            return Ok(connection.clone());
        }
        let connection = kms::connect_with_secret(&config, secret, &Options::default())
            .map_err(|error| declared(reasons::INVALID_SPEC, error.to_string()))?;
        open.insert(at, (digest, connection.clone()));
        Ok(connection)
    }

    /// A connection with the profile's *admin* credential. Made for one change and kept nowhere, so that its secret and its
    /// token live no longer than that.
    pub async fn admin(
        &self,
        client: &Client,
        profile: &KmsProfile,
    ) -> Result<Arc<dyn KmsAdmin>, ProfileProblem> {
        let Some(credential) = &profile.spec.credentials.admin else {
            return Err(declared(reasons::ADMIN_CREDENTIAL_MISSING, "the profile has no credentials.admin"));
        };
        let namespace = profile.namespace().unwrap_or_default();
        check_identity_endpoint(&profile.spec, credential, &self.identity_endpoints)?;
        let ca = authority(client, &namespace, profile.spec.ca_bundle.as_ref()).await?;
        let secret = secret(client, &namespace, credential).await?;
        let config = config(&profile.spec, credential, ca)?;
        kms::connect_admin(&config, Some(secret), &Options::default())
            .map_err(|error| declared(reasons::INVALID_SPEC, error.to_string()))
    }

    /// Forgets a profile that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// Refuses to show the operator's identity token to an endpoint that the chart does not list.
fn check_identity_endpoint(
    spec: &KmsProfileSpec,
    credential: &Credential,
    allowed: &[String],
) -> Result<(), ProfileProblem> {
    let Some(key_protect) = &spec.key_protect else { return Ok(()) };
    let plain = |url: &str| url.trim_end_matches('/').to_owned();
    let endpoint = plain(&key_protect.iam_endpoint);
    if credential.trusted_profile.is_none() || allowed.iter().any(|one| plain(one) == endpoint) {
        return Ok(());
    }
    let message = format!(
        "keyProtect.iamEndpoint {endpoint} may not be shown the operator's identity token: whoever runs the operator lists it in \
         operator.identityTokenEndpoints of the chart's values"
    );
    Err(declared(reasons::INVALID_SPEC, message))
}

fn config(
    spec: &KmsProfileSpec,
    credential: &Credential,
    ca: Option<String>,
) -> Result<ProviderConfig, ProfileProblem> {
    let Some(key_protect) = &spec.key_protect else {
        let message = "this version supports keyProtect only; transit follows";
        return Err(declared(reasons::PROVIDER_NOT_SUPPORTED, message));
    };
    let credential = match credential {
        Credential { trusted_profile: Some(trusted), .. } => CredentialSource::TrustedProfile {
            profile_id: trusted.id.clone(),
            token_path: crate::IDENTITY_TOKEN_FILE.into(),
        },
        // The value is handed over with the connection; the operator has no such file.
        _ => CredentialSource::ApiKeyFile { path: "apiKey".into() },
    };
    Ok(ProviderConfig::KeyProtect(KeyProtectConfig {
        endpoint: key_protect.endpoint.clone(),
        iam_endpoint: key_protect.iam_endpoint.clone(),
        instance: key_protect.instance.clone(),
        root_key: key_protect.root_key.clone(),
        key_ring: key_protect.key_ring.clone(),
        credential,
        ca: ca.map(|pem| CaSource::Pem { pem }),
        allow_loopback_http: false,
    }))
}

async fn authority(
    client: &Client,
    namespace: &str,
    bundle: Option<&CaBundle>,
) -> Result<Option<String>, ProfileProblem> {
    let Some(bundle) = bundle else { return Ok(None) };
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let map = maps.get_opt(&bundle.config_map).await.map_err(|error| ProfileProblem::Api(error.into()))?;
    let name = format!("ConfigMap {namespace}/{}", bundle.config_map);
    let Some(map) = map else {
        return Err(declared(reasons::CA_MISSING, format!("{name} does not exist")));
    };
    match map.data.and_then(|mut data| data.remove(&bundle.key)) {
        Some(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(Some(pem)),
        _ => {
            Err(declared(reasons::CA_MISSING, format!("{name} has no PEM certificate under {}", bundle.key)))
        }
    }
}

async fn secret(
    client: &Client,
    namespace: &str,
    credential: &Credential,
) -> Result<SecretString, ProfileProblem> {
    let Some(reference) = &credential.api_key_secret else {
        return tokio::fs::read_to_string(crate::IDENTITY_TOKEN_FILE).await.map(SecretString::from).map_err(
            |_| {
                let message =
                    "the operator has no identity token; set operator.identityTokenAudience in the chart's values";
                declared(reasons::SECRET_MISSING, message)
            },
        );
    };
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(&reference.name).await.map_err(|error| ProfileProblem::Api(error.into()))?;
    let name = format!("Secret {namespace}/{}", reference.name);
    let Some(secret) = secret else {
        return Err(declared(reasons::SECRET_MISSING, format!("{name} does not exist")));
    };
    let value = secret.data.and_then(|mut data| data.remove(API_KEY_SECRET_KEY));
    let text = value.and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default();
    if text.trim().is_empty() {
        let message = format!("{name} has no text under the key {API_KEY_SECRET_KEY}");
        return Err(declared(reasons::SECRET_INCOMPLETE, message));
    }
    Ok(SecretString::from(text.trim().to_owned()))
}

/// Tells one set of configuration and secret from another without keeping either.
fn digest(config: &ProviderConfig, secret: &SecretString) -> [u8; 32] {
    use kms::ExposeSecret as _;
    let config = serde_json::to_vec(config).expect("plain data");
    let mut digest = Sha256::new();
    digest.update((config.len() as u64).to_le_bytes());
    digest.update(config);
    digest.update(secret.expose_secret());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::fake_api::FakeApi;

    fn spec(iam_endpoint: &str, data: &serde_json::Value) -> KmsProfileSpec {
        let key_protect = serde_json::json!({
            "endpoint": "https://kms", "iamEndpoint": iam_endpoint, "instance": "i", "rootKey": "k",
        });
        serde_json::from_value(serde_json::json!({"keyProtect": key_protect, "credentials": {"data": data}}))
            .unwrap()
    }

    #[test]
    fn the_operators_own_token_goes_to_listed_endpoints_only() {
        let allowed = ["https://iam.cloud.ibm.com".to_owned()];
        let trusted = serde_json::json!({"trustedProfile": {"id": "Profile-1"}});
        let check = |endpoint: &str, data: &serde_json::Value| {
            let spec = spec(endpoint, data);
            check_identity_endpoint(&spec, &spec.credentials.data, &allowed)
        };
        assert!(check("https://iam.cloud.ibm.com", &trusted).is_ok());
        assert!(check("https://iam.cloud.ibm.com/", &trusted).is_ok());
        for other in [
            "https://iam.cloud.ibm.com.evil.example",
            "https://evil.example",
            "https://iam.cloud.ibm.com@evil",
        ] {
            let Err(ProfileProblem::Declared { reason, message }) = check(other, &trusted) else {
                panic!("{other} was shown the token");
            };
            assert_eq!(reason, reasons::INVALID_SPEC);
            assert!(message.contains("operator.identityTokenEndpoints"), "{message}");
        }
        // A key of the profile's own namespace is no secret of the operator's.
        let key = serde_json::json!({"apiKeySecret": {"name": "s"}});
        assert!(check("https://evil.example", &key).is_ok());
    }

    #[tokio::test]
    async fn no_connection_is_made_with_the_operators_token_to_an_endpoint_that_is_not_listed() {
        let (fake, client) = FakeApi::start().await;
        let connections = Connections::new(vec!["https://iam.cloud.ibm.com".into()]);
        let trusted = serde_json::json!({"trustedProfile": {"id": "Profile-1"}});
        let refused = |problem| {
            let says = |message: &str| message.contains("operator.identityTokenEndpoints");
            matches!(problem, Some(ProfileProblem::Declared { message, .. }) if says(&message))
        };
        let mut profile = KmsProfile::new("main", spec("https://evil.example", &trusted));
        assert!(refused(connections.of(&client, &profile).await.err()));
        // Each credential is looked at for itself.
        profile.spec.credentials.admin = Some(profile.spec.credentials.data.clone());
        assert!(refused(connections.admin(&client, &profile).await.err()));
        assert!(fake.asked(&axum::http::Method::GET, "").is_empty(), "nothing was read for it");
    }
}
