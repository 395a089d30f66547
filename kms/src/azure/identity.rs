//! Who we are to Entra ID: an application with a client secret, or one that a service account token stands for.
//!
//! Invariant: a secret goes to the configured login endpoint and nowhere else, whatever a vault asks for; Entra rejects a
//! credential only in its own words.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::config::Credential;
use secrecy::SecretString;
use serde::Deserialize;

use super::PROVIDER;
use super::verdict::{Failed, judge_sign_in};
use crate::auth::{Identity, Issued, LoginError, ReadSecret, SecretSource};
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::error::ErrorKind;
use crate::http::endpoint::Endpoint;
use crate::http::watched::Stamp;
use crate::http::{Http, Reply};
use crate::secret_text::SecretText;

const REPLY_LIMIT: usize = 64 * 1024;
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A credential and the tenant that knows it.
pub(super) struct EntraIdentity {
    http: Arc<Http>,
    endpoint: Endpoint,
    tenant_id: String,
    client_id: String,
    proof: Proof,
    scope: String,
    secret: SecretSource,
}

#[derive(Clone, Copy)]
enum Proof {
    ClientSecret,
    /// A token of somebody whom the tenant trusts for this application.
    Assertion,
}

impl EntraIdentity {
    /// With `given`, the configured file is not touched.
    pub(super) fn new(
        http: Arc<Http>,
        endpoint: Endpoint,
        scope: String,
        credential: &Credential,
        given: Option<SecretString>,
    ) -> Result<Self, ConfigError> {
        let (proof, tenant_id, client_id) = match credential {
            Credential::AzureClientSecretFile { tenant_id, client_id, .. } => {
                (Proof::ClientSecret, tenant_id, client_id)
            }
            Credential::AzureFederated { tenant_id, client_id, .. } => {
                (Proof::Assertion, tenant_id, client_id)
            }
            _ => return Err(ConfigError::Credential),
        };
        check("credential.tenantId", tenant_id)?;
        check("credential.clientId", client_id)?;
        let secret = SecretSource::new(credential.path(), given);
        let (tenant_id, client_id) = (tenant_id.clone(), client_id.clone());
        Ok(Self { http, endpoint, tenant_id, client_id, proof, scope, secret })
    }
}

/// An id, or a tenant's domain.
fn check(field: &'static str, value: &str) -> Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let fits = (1..=128).contains(&value.len()) && value.bytes().all(allowed) && !value.starts_with('.');
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

#[async_trait]
impl Identity for EntraIdentity {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        self.secret.read().await
    }

    /// A client secret that was replaced may have been replaced because it leaked. A service account token is replaced every
    /// hour, and what it was exchanged for stays valid.
    async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        matches!(self.proof, Proof::ClientSecret) && self.secret.changed_since(seen).await
    }

    async fn log_in(&self, secret: &ReadSecret, call: &CallCtx) -> Result<Issued, LoginError> {
        let url = self.endpoint.join(&[&self.tenant_id, "oauth2", "v2.0", "token"]);
        let text = secret.text.as_str();
        let who = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("scope", self.scope.as_str()),
        ];
        let proof: &[(&str, &str)] = match self.proof {
            Proof::ClientSecret => &[("client_secret", text)],
            Proof::Assertion => &[("client_assertion_type", ASSERTION), ("client_assertion", text)],
        };
        let form: Vec<(&str, &str)> = who.iter().chain(proof).copied().collect();
        let build = |client: &reqwest::Client| {
            client
                .post(url)
                .header("Accept", "application/json")
                .header("client-request-id", call.correlation_id.to_string())
                .form(&form)
        };
        issued(&self.http.send(call, REPLY_LIMIT, build).await?)
    }
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretText,
    expires_in: u64,
}

fn issued(reply: &Reply) -> Result<Issued, LoginError> {
    let failed = |kind, code| LoginError { kind, status: Some(reply.status), code };
    if reply.status != 200 {
        let Failed { kind, code } = judge_sign_in(reply);
        return Err(failed(kind, code));
    }
    if !reply.is_json() {
        return Err(failed(ErrorKind::Integrity("it is not json"), None));
    }
    let body: TokenBody = serde_json::from_slice(&reply.body)
        .map_err(|_| failed(ErrorKind::Integrity("it lacks the access token"), None))?;
    Issued::new(body.access_token.into(), Duration::from_secs(body.expires_in), false)
        .ok_or_else(|| failed(ErrorKind::Integrity("its token cannot be used"), None))
}
