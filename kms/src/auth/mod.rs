//! Credentials become access tokens: what every vendor's identity service has in common.
//!
//! Invariant: a secret is read when it is needed, zeroized on drop and told from another by its hash alone.

mod secret;
mod token;

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::call::CallCtx;
use crate::error::ErrorKind;
use crate::http::watched::Stamp;

pub(crate) use secret::{ReadSecret, SecretSource};
pub(crate) use token::{Token, Tokens};

/// A longer life would only mean that a change of the credential is noticed later.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// Who we are to a vendor, and how that is turned into a token.
#[async_trait]
pub(crate) trait Identity: Send + Sync + 'static {
    /// The provider's name in errors, audit events and metrics.
    fn provider(&self) -> &'static str;

    /// The secret as it is now.
    async fn read(&self) -> Result<ReadSecret, ErrorKind>;

    /// The secret was replaced since, in a way that a token which was had for the old one must not outlive.
    async fn changed_since(&self, seen: Option<&Stamp>) -> bool;

    /// Exchanges the secret for a token.
    async fn log_in(&self, secret: &ReadSecret, call: &CallCtx) -> Result<Issued, LoginError>;

    /// The same token with a longer life; `None`: there is no such, log in instead.
    async fn prolong(&self, token: &Token, call: &CallCtx) -> Option<Issued> {
        let _ = (token, call);
        None
    }
}

/// What an identity service gives.
pub(crate) struct Issued {
    pub(crate) token: SecretString,
    pub(crate) lifetime: Duration,
    /// The service may prolong it.
    pub(crate) renewable: bool,
}

impl Issued {
    /// What is usable of an answer: a token that can stand in a header, for a bounded time.
    pub(crate) fn new(token: SecretString, lifetime: Duration, renewable: bool) -> Option<Self> {
        use secrecy::ExposeSecret as _;
        let text = token.expose_secret();
        let usable =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) && lifetime > Duration::ZERO;
        usable.then(|| Self { token, lifetime: lifetime.min(LONGEST_LIFE), renewable })
    }
}

/// A failed login, with what may be shown of it.
pub(crate) struct LoginError {
    pub(crate) kind: ErrorKind,
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<String>,
}

impl From<ErrorKind> for LoginError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, status: None, code: None }
    }
}
