//! IBM Cloud IAM: a credential becomes an access token.
//!
//! Source: IBM Cloud IAM Identity Services API, `POST /identity/token`. Invariant: IAM rejects a credential only in
//! its own words; everything else is an outage.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::secret_text::SecretText;
use crate::call::CallCtx;
use crate::config::CredentialSource;
use crate::error::{ErrorKind, Outage};
use crate::http::endpoint::Endpoint;
use crate::http::watched::{Stamp, WatchedFile};
use crate::http::{Http, Reply};

const REPLY_LIMIT: usize = 32 * 1024;

/// A credential and where its secret comes from.
pub(super) struct Credential {
    grant: Grant,
    secret: SecretSource,
}

enum Grant {
    ApiKey,
    TrustedProfile { profile_id: String },
}

enum SecretSource {
    File(WatchedFile),
    Given(SecretString),
}

/// A secret as it was read, and what is needed to see later that it changed.
pub(super) struct ReadSecret {
    text: Zeroizing<String>,
    /// SHA-256 of the secret.
    pub(super) fingerprint: [u8; 32],
    pub(super) stamp: Option<Stamp>,
}

impl Credential {
    /// With `given`, the configured file is not touched.
    pub(super) fn new(source: &CredentialSource, given: Option<SecretString>) -> Self {
        let (grant, path) = match source {
            CredentialSource::ApiKeyFile { path } => (Grant::ApiKey, path),
            CredentialSource::TrustedProfile { profile_id, token_path } => {
                (Grant::TrustedProfile { profile_id: profile_id.clone() }, token_path)
            }
        };
        let secret = match given {
            Some(secret) => SecretSource::Given(secret),
            None => SecretSource::File(WatchedFile::new(path)),
        };
        Self { grant, secret }
    }

    pub(super) async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        let (text, stamp) = match &self.secret {
            SecretSource::Given(secret) => (Zeroizing::new(secret.expose_secret().trim().to_owned()), None),
            SecretSource::File(file) => {
                let (content, stamp) = file.read().await.map_err(|_| ErrorKind::CredentialUnreadable)?;
                let text = std::str::from_utf8(&content).map_err(|_| ErrorKind::CredentialUnreadable)?;
                (Zeroizing::new(text.trim().to_owned()), Some(stamp))
            }
        };
        if text.is_empty() {
            return Err(ErrorKind::CredentialUnreadable);
        }
        let fingerprint = Sha256::digest(text.as_bytes()).into();
        Ok(ReadSecret { text, fingerprint, stamp })
    }

    /// An API key that was replaced may have been replaced because it leaked. A service account token is replaced
    /// every hour, and what it was exchanged for stays valid.
    pub(super) async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        match (&self.grant, &self.secret, seen) {
            (Grant::ApiKey, SecretSource::File(file), Some(seen)) => file.changed_since(seen).await,
            _ => false,
        }
    }
}

/// What IAM gives.
pub(super) struct Issued {
    pub(super) token: SecretString,
    pub(super) lifetime: Duration,
}

/// A failed login, with what may be shown of it.
pub(super) struct LoginError {
    pub(super) kind: ErrorKind,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
}

impl From<ErrorKind> for LoginError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, status: None, code: None }
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

/// Exchanges the secret for a token.
pub(super) async fn login(
    http: &Http,
    endpoint: &Endpoint,
    credential: &Credential,
    secret: &ReadSecret,
    call: &CallCtx,
) -> Result<Issued, LoginError> {
    let url = endpoint.join(&["identity", "token"]);
    let text = secret.text.as_str();
    let reply = http
        .send(call, REPLY_LIMIT, |client| {
            let request = client.post(url).header("Accept", "application/json");
            match &credential.grant {
                Grant::ApiKey => request
                    .form(&[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", text)]),
                Grant::TrustedProfile { profile_id } => request.form(&[
                    ("grant_type", "urn:ibm:params:oauth:grant-type:cr-token"),
                    ("cr_token", text),
                    ("profile_id", profile_id),
                ]),
            }
        })
        .await?;
    judge(&reply)
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
    let text = token.expose_secret();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) || body.expires_in == 0 {
        return Err(unusable("its access token cannot be used"));
    }
    // A longer life would only mean that a change of the credential is noticed later.
    let lifetime = Duration::from_secs(body.expires_in).min(Duration::from_hours(24));
    Ok(Issued { token, lifetime })
}
