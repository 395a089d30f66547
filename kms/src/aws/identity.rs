//! Who we are to AWS: access keys that lie in a file, or a role that is taken with a service account token.
//!
//! Invariant: access keys are never sent, only what they sign; STS rejects a token only in its own words, everything else is an
//! outage.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::keys::AccessKeys;
use super::{PROVIDER, agent};
use crate::auth::{Identity, Issued, LONGEST_LIFE, LoginError, ReadSecret, SecretSource};
use crate::call::CallCtx;
use crate::error::{ErrorKind, Outage};
use crate::http::endpoint::Endpoint;
use crate::http::watched::Stamp;
use crate::http::{Http, Reply};

const REPLY_LIMIT: usize = 32 * 1024;

/// Seen in CloudTrail as the session's name.
const SESSION_NAME: &str = "cofferdam";

/// What every role allows.
const SESSION_SECONDS: &str = "3600";

/// A credential and, for a role, the STS that gives it.
pub(super) struct AwsIdentity {
    role: Option<Role>,
    secret: SecretSource,
}

/// A role, and where it is had.
pub(super) struct Role {
    pub(super) http: Arc<Http>,
    pub(super) sts: Endpoint,
    pub(super) arn: String,
}

impl AwsIdentity {
    /// Without a role, the secret is a credentials file; with one, a token for STS. With `given`, `path` is not touched.
    pub(super) fn new(role: Option<Role>, path: &str, given: Option<SecretString>) -> Self {
        Self { role, secret: SecretSource::new(path, given) }
    }
}

#[async_trait]
impl Identity for AwsIdentity {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        self.secret.read().await
    }

    /// Access keys that were replaced may have been replaced because they leaked. A service account token is replaced every
    /// hour, and what it was exchanged for stays valid.
    async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        self.role.is_none() && self.secret.changed_since(seen).await
    }

    async fn log_in(&self, secret: &ReadSecret, call: &CallCtx) -> Result<Issued, LoginError> {
        match &self.role {
            Some(role) => role.assume(&secret.text, call).await,
            None => AccessKeys::of_file(&secret.text)
                .and_then(|keys| Issued::new(keys.to_token(), LONGEST_LIFE, false))
                .ok_or_else(|| ErrorKind::CredentialUnreadable.into()),
        }
    }
}

impl Role {
    async fn assume(&self, token: &str, call: &CallCtx) -> Result<Issued, LoginError> {
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", self.arn.as_str()),
            ("RoleSessionName", SESSION_NAME),
            ("DurationSeconds", SESSION_SECONDS),
            ("WebIdentityToken", token),
        ];
        let url = self.sts.join(&[]);
        let build = |client: &reqwest::Client| {
            client.post(url).header("User-Agent", agent(call)).header("Accept", "text/xml").form(&form)
        };
        judge(&self.http.send(call, REPLY_LIMIT, build).await?)
    }
}

fn judge(reply: &Reply) -> Result<Issued, LoginError> {
    let text = xml(reply);
    let code = text.and_then(|text| element(text, "Code")).filter(|code| super::verdict::is_code(code));
    let kind = match reply.status {
        200..=299 => return issued(reply, text),
        status => failed(status, code, text.and_then(|text| element(text, "Message")), reply.retry_after),
    };
    Err(LoginError { kind, status: Some(reply.status), code: code.map(str::to_owned) })
}

fn failed(
    status: u16,
    code: Option<&str>,
    message: Option<&str>,
    retry_after: Option<Duration>,
) -> ErrorKind {
    let outage = |why| ErrorKind::Unavailable { why, retry_after };
    // Nothing is wrong with a token whose keys could not be fetched.
    let unseen = message.is_some_and(|text| text.starts_with("Couldn't retrieve verification key"));
    match (status, code) {
        (429, _) | (_, Some("Throttling" | "ThrottlingException" | "RequestLimitExceeded")) => {
            ErrorKind::Throttled { retry_after }
        }
        (408, _) => outage(Outage::Timeout),
        (500..=599, _) | (_, Some("IDPCommunicationError" | "InternalFailure" | "ServiceUnavailable")) => {
            outage(Outage::ServerError)
        }
        (400..=499, Some("InvalidIdentityToken")) if unseen => outage(Outage::ServerError),
        (400..=499, Some(_)) => ErrorKind::CredentialRejected,
        (300..=399, _) => ErrorKind::Integrity("it is a redirect"),
        _ => ErrorKind::Integrity("it is not an answer of sts"),
    }
}

fn issued(reply: &Reply, text: Option<&str>) -> Result<Issued, LoginError> {
    let unusable =
        |why| LoginError { kind: ErrorKind::Integrity(why), status: Some(reply.status), code: None };
    let text = text.ok_or_else(|| unusable("it is not xml"))?;
    let part = |name| element(text, name).ok_or_else(|| unusable("it lacks the access keys"));
    let keys = AccessKeys::new(part("AccessKeyId")?, part("SecretAccessKey")?, Some(part("SessionToken")?))
        .ok_or_else(|| unusable("its access keys cannot be used"))?;
    let until: Timestamp = part("Expiration")?.parse().map_err(|_| unusable("its end cannot be read"))?;
    // By the clock of the one who set the end, because ours may be another.
    let now = reply.date.unwrap_or_else(Timestamp::now);
    let lifetime = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    Issued::new(keys.to_token(), lifetime, false).ok_or_else(|| unusable("its access keys have ended"))
}

fn xml(reply: &Reply) -> Option<&str> {
    let kind = reply.content_type.as_deref()?;
    let text = std::str::from_utf8(&reply.body).ok()?;
    (kind == "text/xml" || kind == "application/xml").then_some(text)
}

/// The text of the one element of this name. What needs escaping in XML stands in none that is read here.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = text.split_once(&open)?;
    let (content, after) = rest.split_once(&close)?;
    let plain = !content.contains(['<', '&']) && !after.contains(&open);
    plain.then(|| content.trim())
}
