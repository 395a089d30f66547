//! IBM Cloud IAM: a credential becomes an access token.
//!
//! Source: IBM Cloud IAM Identity Services API, `POST /identity/token`. Invariant: IAM rejects a credential only in
//! its own words; everything else is an outage.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::config::Credential;
use secrecy::SecretString;
use serde::Deserialize;

use super::PROVIDER;
use crate::auth::{Identity, Issued, LoginError, ReadSecret, SecretSource};
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::error::{ErrorKind, Outage};
use crate::http::endpoint::Endpoint;
use crate::http::watched::Stamp;
use crate::http::{Http, Reply};
use crate::secret_text::SecretText;

const REPLY_LIMIT: usize = 32 * 1024;

/// A credential and the IAM that knows it.
pub(super) struct Iam {
    http: Arc<Http>,
    endpoint: Endpoint,
    grant: Grant,
    secret: SecretSource,
}

enum Grant {
    ApiKey,
    TrustedProfile { profile_id: String },
}

impl Iam {
    /// With `given`, the configured file is not touched.
    pub(super) fn new(
        http: Arc<Http>,
        endpoint: Endpoint,
        credential: &Credential,
        given: Option<SecretString>,
    ) -> Result<Self, ConfigError> {
        let grant = match credential {
            Credential::ApiKeyFile { .. } => Grant::ApiKey,
            Credential::TrustedProfile { profile_id, .. } => {
                Grant::TrustedProfile { profile_id: profile_id.clone() }
            }
            _ => return Err(ConfigError::Credential),
        };
        Ok(Self { http, endpoint, grant, secret: SecretSource::new(credential.path(), given) })
    }
}

#[async_trait]
impl Identity for Iam {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        self.secret.read().await
    }

    /// An API key that was replaced may have been replaced because it leaked. A service account token is replaced
    /// every hour, and what it was exchanged for stays valid.
    async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        matches!(self.grant, Grant::ApiKey) && self.secret.changed_since(seen).await
    }

    async fn log_in(&self, secret: &ReadSecret, call: &CallCtx) -> Result<Issued, LoginError> {
        let url = self.endpoint.join(&["identity", "token"]);
        let text = secret.text.as_str();
        let build = |client: &reqwest::Client| {
            let request = client.post(url).header("Accept", "application/json");
            match &self.grant {
                Grant::ApiKey => request
                    .form(&[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", text)]),
                Grant::TrustedProfile { profile_id } => request.form(&[
                    ("grant_type", "urn:ibm:params:oauth:grant-type:cr-token"),
                    ("cr_token", text),
                    ("profile_id", profile_id),
                ]),
            }
        };
        judge(&self.http.send(call, REPLY_LIMIT, build).await?)
    }
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretText,
    expires_in: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IamError {
    error_code: String,
}

fn judge(reply: &Reply) -> Result<Issued, LoginError> {
    let status = reply.status;
    let retry_after = reply.retry_after;
    let rejection = reply
        .is_json()
        .then(|| serde_json::from_slice::<IamError>(&reply.body).ok())
        .flatten()
        .map(|body| body.error_code);
    let kind = match (status, &rejection) {
        (200..=299, _) => return issued(reply),
        (429, _) => ErrorKind::Throttled { retry_after },
        (500..=599, _) => ErrorKind::Unavailable { why: Outage::ServerError, retry_after },
        (408, _) => ErrorKind::Unavailable { why: Outage::Timeout, retry_after },
        (400..=499, Some(_)) => ErrorKind::CredentialRejected,
        _ => ErrorKind::Integrity("it is not an answer of iam"),
    };
    let code = rejection.filter(|code| super::verdict::is_code(code));
    Err(LoginError { kind, status: Some(status), code })
}

fn issued(reply: &Reply) -> Result<Issued, LoginError> {
    let unusable =
        |why| LoginError { kind: ErrorKind::Integrity(why), status: Some(reply.status), code: None };
    if !reply.is_json() {
        return Err(unusable("it is not json"));
    }
    let body: TokenBody =
        serde_json::from_slice(&reply.body).map_err(|_| unusable("it lacks the access token"))?;
    let token = SecretString::from(body.access_token);
    Issued::new(token, Duration::from_secs(body.expires_in), false)
        .ok_or_else(|| unusable("its access token cannot be used"))
}
