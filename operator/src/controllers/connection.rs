//! Connections to the KMS, one for each profile, made anew when the profile, its Secret or its CA bundle changes.
//!
//! Invariant: secrets are read from the API when they are needed and live only inside a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::KmsProfile;
use api::condition::reasons;
use api::connection;
use api::profile::{CaBundle, Credential, KmsProfileSpec};
use audit::Trail;
use contract::audit::Who;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kms::admin::KmsAdmin;
use kms::{CaSource, ConfigError, Kms, KmsError, Options, ProviderConfig, SecretString};
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};

use super::{AllowedEndpoints, IdentityTokens};

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

/// What whoever runs the operator lets profiles do, whoever writes them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Which addresses may be called.
    pub allowed_endpoints: AllowedEndpoints,
    /// Which of them may be shown identity tokens.
    pub identity_tokens: IdentityTokens,
}

/// Open connections by profile.
pub struct Connections {
    rules: Rules,
    trail: Arc<Trail>,
    open: Mutex<HashMap<(String, String), Entry>>,
}

impl Connections {
    /// None yet; a profile that these rules refuse gets none.
    pub fn new(rules: Rules, trail: Arc<Trail>) -> Self {
        Self { rules, trail, open: Mutex::default() }
    }

    /// The connection of a profile with its *data* credential; reads the Secret and the CA bundle each time, so that a
    /// change counts at once.
    pub async fn of(&self, client: &Client, profile: &KmsProfile) -> Result<Arc<dyn Kms>, ProfileProblem> {
        let namespace = profile.namespace().unwrap_or_default();
        self.check(profile)?;
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
        let connection = kms::connect_with_secret(&config, secret, &self.options(profile))
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
        self.check(profile)?;
        let ca = authority(client, &namespace, profile.spec.ca_bundle.as_ref()).await?;
        let secret = secret(client, &namespace, credential).await?;
        let config = config(&profile.spec, credential, ca)?;
        kms::connect_admin(&config, Some(secret), &self.options(profile))
            .map_err(|error| declared(reasons::INVALID_SPEC, error.to_string()))
    }

    fn options(&self, profile: &KmsProfile) -> Options {
        let namespace = profile.namespace().unwrap_or_default();
        let who =
            Who { profile: Some(format!("{namespace}/{}", profile.name_any())), ..self.trail.who().clone() };
        Options { auditor: self.trail.scoped(who), ..Options::default() }
    }

    fn check(&self, profile: &KmsProfile) -> Result<(), ProfileProblem> {
        let problem = self.rules.allowed_endpoints.problem(&profile.spec);
        let problem = problem.or_else(|| self.rules.identity_tokens.problem(&profile.spec));
        problem.map_or(Ok(()), |problem| Err(declared(reasons::INVALID_SPEC, problem)))
    }

    /// Forgets a profile that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

fn config(
    spec: &KmsProfileSpec,
    credential: &Credential,
    ca: Option<String>,
) -> Result<ProviderConfig, ProfileProblem> {
    let Some(provider) = connection::provider(spec) else {
        let message = "it names no provider that this version supports";
        return Err(declared(reasons::PROVIDER_NOT_SUPPORTED, message));
    };
    // A secret is handed over with the connection: the operator reads no file but that of its own identity token.
    let credential = connection::in_directory(credential, crate::IDENTITY_TOKEN_DIR);
    let credential =
        credential.ok_or_else(|| declared(reasons::INVALID_SPEC, ConfigError::Credential.to_string()))?;
    let ca = ca.map(|pem| CaSource::Pem { pem });
    let proxy = spec.proxy.clone();
    Ok(ProviderConfig { ca, proxy, ..ProviderConfig::new(provider, credential) })
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
    let Some((name, key)) = connection::secret(credential) else {
        return tokio::fs::read_to_string(crate::IDENTITY_TOKEN_FILE).await.map(SecretString::from).map_err(
            |_| {
                let message =
                    "the operator has no identity token; set operator.identityTokenAudience in the chart's values";
                declared(reasons::SECRET_MISSING, message)
            },
        );
    };
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(name).await.map_err(|error| ProfileProblem::Api(error.into()))?;
    let name = format!("Secret {namespace}/{name}");
    let Some(secret) = secret else {
        return Err(declared(reasons::SECRET_MISSING, format!("{name} does not exist")));
    };
    let value = secret.data.and_then(|mut data| data.remove(key));
    let text = value.and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default();
    if text.trim().is_empty() {
        let message = format!("{name} has no text under the key {key}");
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
    use fake_api::FakeApi;

    use crate::controllers::sample::nowhere;

    #[tokio::test]
    async fn no_connection_is_made_for_a_profile_that_would_send_identity_tokens_elsewhere() {
        let (fake, client) = FakeApi::start().await;
        let endpoints = vec!["https://iam.cloud.ibm.com".into()];
        let identity_tokens = IdentityTokens::new(endpoints, vec![]);
        let connections = Connections::new(Rules { identity_tokens, ..Rules::default() }, nowhere());
        let trusted = serde_json::json!({"trustedProfile": {"id": "Profile-1"}});
        let spec = serde_json::from_value(serde_json::json!({
            "keyProtect": {"endpoint": "https://kms", "iamEndpoint": "https://evil.example", "instance": "i", "rootKey": "k"},
            "credentials": {"data": {"apiKeySecret": {"name": "s"}}, "admin": trusted},
        }))
        .unwrap();
        let refused = |problem| {
            let says = |message: &str| message.contains("operator.identityTokenEndpoints");
            matches!(problem, Some(ProfileProblem::Declared { reason: reasons::INVALID_SPEC, message }) if says(&message))
        };
        let profile = KmsProfile::new("main", spec);
        assert!(refused(connections.of(&client, &profile).await.err()));
        assert!(refused(connections.admin(&client, &profile).await.err()));
        assert!(fake.asked(&axum::http::Method::GET, "").is_empty(), "nothing was read for it");
    }
}
