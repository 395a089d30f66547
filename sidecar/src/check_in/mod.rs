//! Checking in with the operator: reports go out, orders come back.
//!
//! Invariant: the operator is asked, never needed: without an answer everything goes on with what is known. One that is busy is
//! asked again when it says, within bounds of our own. Token and CA are read anew whenever they changed, and the CA of the
//! file alone is trusted.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use contract::check_in::{CheckIn, CheckInReply};
use contract::names::{CA_DIR, CA_OPERATOR_KEY, CHECK_IN_PATH, TOKEN_FILE};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode};
use thiserror::Error;

/// Limit of one check-in.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest reply.
const MOST: usize = 1 << 20;
/// The shortest and the longest pause that a busy operator may ask for.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Why a check-in failed.
#[derive(Debug, Error)]
pub enum CheckInError {
    /// The CA of the operator.
    #[error("read the certificate authority of the operator")]
    Ca(#[source] std::io::Error),
    /// The CA of the operator.
    #[error("use the certificate authority of the operator")]
    Trust(#[source] reqwest::Error),
    /// The token.
    #[error("read the token")]
    Token(#[source] std::io::Error),
    /// No answer.
    #[error("reach the operator")]
    Unreachable(#[source] reqwest::Error),
    /// The operator has too much to do just now; that says nothing of this pod.
    #[error("be heard by the operator: it is busy")]
    Busy {
        /// When to come again, where it says so.
        after: Option<Duration>,
    },
    /// The operator answered, and not with orders.
    #[error("be accepted by the operator: http {0}")]
    Status(StatusCode),
    /// The answer is not one.
    #[error("understand the operator")]
    Reply,
}

impl CheckInError {
    /// When a busy operator wants to be asked again.
    pub fn come_again(&self) -> Option<Duration> {
        match self {
            Self::Busy { after } => *after,
            _ => None,
        }
    }
}

/// A client for one operator.
pub struct CheckInClient {
    url: String,
    ca: PathBuf,
    token: PathBuf,
    built: Option<(Client, SystemTime)>,
}

impl CheckInClient {
    /// With the files that the injected volumes bring. `None` without an operator.
    pub fn new(operator_url: &str) -> Option<Self> {
        Self::with_files(operator_url, &Path::new(CA_DIR).join(CA_OPERATOR_KEY), Path::new(TOKEN_FILE))
    }

    /// With other files.
    pub fn with_files(operator_url: &str, ca: &Path, token: &Path) -> Option<Self> {
        if operator_url.is_empty() {
            return None;
        }
        let url = format!("{}{CHECK_IN_PATH}", operator_url.trim_end_matches('/'));
        Some(Self { url, ca: ca.into(), token: token.into(), built: None })
    }

    /// Sends one report.
    pub async fn send(&mut self, report: &CheckIn) -> Result<CheckInReply, CheckInError> {
        let client = self.client()?;
        let token = std::fs::read_to_string(&self.token).map_err(CheckInError::Token)?;
        let request = client.post(&self.url).bearer_auth(token.trim()).json(report);
        let answer = request.send().await.map_err(|error| CheckInError::Unreachable(error.without_url()))?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(CheckInError::Busy { after: retry_after(answer.headers()) });
            }
            status => return Err(CheckInError::Status(status)),
        }
        let text = body(answer).await?;
        serde_json::from_slice(&text).map_err(|_| CheckInError::Reply)
    }

    fn client(&mut self) -> Result<Client, CheckInError> {
        let stamp = std::fs::metadata(&self.ca).and_then(|file| file.modified()).map_err(CheckInError::Ca)?;
        if let Some((client, built)) = &self.built
            && *built == stamp
        {
            return Ok(client.clone());
        }
        let pem = std::fs::read(&self.ca).map_err(CheckInError::Ca)?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(CheckInError::Trust)?;
        let builder = Client::builder()
            .tls_certs_only(certificates)
            .timeout(PATIENCE)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let client = builder.build().map_err(CheckInError::Trust)?;
        self.built = Some((client.clone(), stamp));
        Ok(client)
    }
}

/// What the operator asks for, within what we bear: a wrong value shall neither silence nor hurry us.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(PAUSES.0, PAUSES.1))
}

/// The body of an answer, as long as a reply may be: its length is not believed before it has come.
async fn body(mut answer: Response) -> Result<Vec<u8>, CheckInError> {
    let mut body = Vec::new();
    let broke = |error: reqwest::Error| CheckInError::Unreachable(error.without_url());
    while let Some(more) = answer.chunk().await.map_err(broke)? {
        if body.len() + more.len() > MOST {
            return Err(CheckInError::Reply);
        }
        body.extend_from_slice(&more);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
