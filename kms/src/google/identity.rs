//! Who we are to Google: a service account by its key, or a Kubernetes service account by workload identity federation.
//!
//! Invariant: a token service rejects a credential only in its own words; everything else is an outage. A clock of ours that is wrong
//! keeps nobody out: the service's own time is taken where ours was not accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use contract::config::{Credential, GoogleKms};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::exchange::sensitive;
use super::{PROVIDER, key_file, verdict};
use crate::auth::{Identity, Issued, LoginError, ReadSecret, SecretSource};
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::error::ErrorKind;
use crate::http::endpoint::Endpoint;
use crate::http::watched::Stamp;
use crate::http::{Http, Reply, json_body};
use crate::secret_text::SecretText;

/// All that a token of ours is good for.
pub(super) const KMS_SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// All that the token is good for with which a service account is spoken for.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

const REPLY_LIMIT: usize = 32 * 1024;
/// How long a token for a service account is asked for.
const LIFETIME: Duration = Duration::from_hours(1);
/// Clocks that differ by less are not the reason of a rejection.
const TOLERABLE_SKEW: i64 = 60;

/// How a credential becomes a token, and where.
pub(super) enum Way {
    /// An assertion, signed with a service account's key. `audience` is the address, so that nobody else can use it.
    KeyFile { token: Endpoint, audience: String },
    /// A projected token is exchanged, and what comes back perhaps speaks for a service account.
    Federation { sts: Endpoint, audience: String, account: Option<(Endpoint, String)> },
}

impl Way {
    pub(super) fn new(
        spec: &GoogleKms,
        credential: &Credential,
        allow_loopback_http: bool,
    ) -> Result<Self, ConfigError> {
        let endpoint = |field, address: &str| Endpoint::parse(field, address, allow_loopback_http);
        match credential {
            Credential::GoogleKeyFile { .. } => {
                let audience = spec.token_endpoint();
                let base = audience.strip_suffix("/token").unwrap_or("no address of tokens");
                let token = Endpoint::parse("tokenEndpoint", base, allow_loopback_http)?;
                Ok(Self::KeyFile { token, audience: audience.to_owned() })
            }
            Credential::GoogleWorkloadIdentity { audience, service_account, .. } => {
                check_audience(audience)?;
                let sts = endpoint("stsEndpoint", spec.sts_endpoint())?;
                let account = match service_account {
                    None => None,
                    Some(email) => {
                        check_email(email)?;
                        let iam = endpoint("iamEndpoint", spec.iam_endpoint())?;
                        Some((iam, email.clone()))
                    }
                };
                Ok(Self::Federation { sts, audience: audience.clone(), account })
            }
            _ => Err(ConfigError::Credential),
        }
    }

    pub(super) fn is_https(&self) -> bool {
        match self {
            Self::KeyFile { token, .. } => token.is_https(),
            Self::Federation { sts, account, .. } => {
                sts.is_https() && account.as_ref().is_none_or(|(iam, _)| iam.is_https())
            }
        }
    }
}

/// `//iam.googleapis.com/projects/N/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.
fn check_audience(audience: &str) -> Result<(), ConfigError> {
    let shape = ["projects", "", "locations", "global", "workloadIdentityPools", "", "providers", ""];
    let parts: Vec<&str> = audience.strip_prefix("//iam.googleapis.com/").unwrap_or("").split('/').collect();
    let is_id = |id: &str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let fits = parts.len() == shape.len()
        && parts
            .iter()
            .zip(shape)
            .all(|(part, wanted)| if wanted.is_empty() { is_id(part) } else { *part == wanted });
    if fits { Ok(()) } else { Err(ConfigError::Field { field: "credential.audience" }) }
}

fn check_email(email: &str) -> Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._@".contains(&b);
    let fits = (3..=256).contains(&email.len())
        && email.bytes().all(allowed)
        && email.split('@').count() == 2
        && !email.starts_with('.');
    if fits { Ok(()) } else { Err(ConfigError::Field { field: "credential.serviceAccount" }) }
}

/// A credential and the services that know it.
pub(super) struct GoogleIdentity {
    http: Arc<Http>,
    way: Way,
    secret: SecretSource,
    /// Seconds that the token service's clock is ahead of ours, as far as it mattered.
    skew: AtomicI64,
}

/// Answer of the two endpoints that speak OAuth.
#[derive(Deserialize)]
struct OAuthToken {
    access_token: SecretText,
    expires_in: u64,
}

/// Answer of the one that does not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountToken {
    access_token: SecretText,
    expire_time: String,
}

#[derive(Serialize)]
struct AccountBody {
    scope: [&'static str; 1],
    lifetime: String,
}

impl GoogleIdentity {
    /// With `given`, the configured file is not touched.
    pub(super) fn new(http: Arc<Http>, way: Way, path: &str, given: Option<SecretString>) -> Self {
        Self { http, way, secret: SecretSource::new(path, given), skew: AtomicI64::new(0) }
    }

    /// Asserts who we are, and once more by the service's clock where ours is the likely reason that it was not believed.
    async fn assert(
        &self,
        token: &Endpoint,
        audience: &str,
        file: &str,
        call: &CallCtx,
    ) -> Result<Issued, LoginError> {
        let skew = self.skew.load(Ordering::Relaxed);
        let reply = self.send_assertion(token, audience, file, skew, call).await?;
        let ahead = reply.date.map_or(skew, |date| date.as_second() - jiff::Timestamp::now().as_second());
        let first = granted(&reply);
        let rejected = matches!(&first, Err(error) if error.kind == ErrorKind::CredentialRejected);
        if !rejected || (ahead - skew).abs() <= TOLERABLE_SKEW {
            return first;
        }
        let second = granted(&self.send_assertion(token, audience, file, ahead, call).await?);
        if second.is_ok() {
            self.skew.store(ahead, Ordering::Relaxed);
        }
        second
    }

    async fn send_assertion(
        &self,
        token: &Endpoint,
        audience: &str,
        file: &str,
        skew: i64,
        call: &CallCtx,
    ) -> Result<Reply, LoginError> {
        let assertion = key_file::assertion(file, audience, jiff::Timestamp::now().as_second() + skew)?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.as_str()),
        ];
        let url = token.join(&["token"]);
        Ok(self.http.send(call, REPLY_LIMIT, |client| client.post(url).form(&form)).await?)
    }

    async fn exchange(
        &self,
        sts: &Endpoint,
        audience: &str,
        scope: &str,
        subject: &str,
        call: &CallCtx,
    ) -> Result<Reply, LoginError> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", audience),
            ("scope", scope),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token", subject),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ];
        let url = sts.join(&["v1", "token"]);
        Ok(self.http.send(call, REPLY_LIMIT, |client| client.post(url).form(&form)).await?)
    }

    /// A token of a service account for one of whoever may speak for it.
    async fn speak_for(
        &self,
        iam: &Endpoint,
        account: &str,
        federated: &str,
        call: &CallCtx,
    ) -> Result<Issued, LoginError> {
        let account = format!("{account}:generateAccessToken");
        let url = iam.join(&["v1", "projects", "-", "serviceAccounts", &account]);
        let lifetime = format!("{}s", LIFETIME.as_secs());
        let body = json_body(&AccountBody { scope: [KMS_SCOPE], lifetime });
        let bearer = sensitive(federated)?;
        let build = |client: &reqwest::Client| {
            client
                .post(url)
                .header("Authorization", bearer)
                .header("Content-Type", "application/json")
                .header("X-Goog-Request-Reason", call.correlation_id.to_string())
                .body(body)
        };
        let reply = self.http.send(call, REPLY_LIMIT, build).await?;
        let AccountToken { access_token, expire_time } = parse(&reply)?;
        issued(access_token, left(&expire_time, &reply), &reply)
    }
}

#[async_trait]
impl Identity for GoogleIdentity {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        self.secret.read().await
    }

    /// A key that was replaced may have been replaced because it leaked. A service account token is replaced every hour, and what
    /// it was exchanged for stays valid.
    async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        matches!(self.way, Way::KeyFile { .. }) && self.secret.changed_since(seen).await
    }

    async fn log_in(&self, secret: &ReadSecret, call: &CallCtx) -> Result<Issued, LoginError> {
        let text = secret.text.as_str();
        match &self.way {
            Way::KeyFile { token, audience } => self.assert(token, audience, text, call).await,
            Way::Federation { sts, audience, account: None } => {
                granted(&self.exchange(sts, audience, KMS_SCOPE, text, call).await?)
            }
            Way::Federation { sts, audience, account: Some((iam, account)) } => {
                let reply = self.exchange(sts, audience, IAM_SCOPE, text, call).await?;
                let OAuthToken { access_token, .. } = parse(&reply)?;
                self.speak_for(iam, account, access_token.expose(), call).await
            }
        }
    }
}

/// By the service's clock, where it says what that is: ours may be wrong.
fn left(expire_time: &str, reply: &Reply) -> Duration {
    let end = expire_time.parse::<jiff::Timestamp>().ok();
    let left = end.zip(reply.date).map(|(end, now)| Duration::try_from(end.duration_since(now)));
    left.map_or(LIFETIME, |left| left.unwrap_or_default().min(LIFETIME))
}

fn granted(reply: &Reply) -> Result<Issued, LoginError> {
    let OAuthToken { access_token, expires_in } = parse(reply)?;
    issued(access_token, Duration::from_secs(expires_in), reply)
}

fn parse<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, LoginError> {
    let failed = |kind, code| LoginError { kind, status: Some(reply.status), code };
    if reply.status != 200 {
        let (kind, code) = verdict::judge_login(reply);
        return Err(failed(kind, code));
    }
    if !reply.is_json() {
        return Err(failed(ErrorKind::Integrity("it is not json"), None));
    }
    serde_json::from_slice(&reply.body).map_err(|_| failed(ErrorKind::Integrity("it lacks the token"), None))
}

fn issued(token: SecretText, lifetime: Duration, reply: &Reply) -> Result<Issued, LoginError> {
    let unusable = ErrorKind::Integrity("its token cannot be used");
    Issued::new(token.into(), lifetime, false).ok_or(LoginError {
        kind: unusable,
        status: Some(reply.status),
        code: None,
    })
}
