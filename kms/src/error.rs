//! The one error type of the crate, and what each kind means for those who hold keys.
//!
//! Invariant: only an authentic answer of the KMS becomes a refusal. Errors carry no secret and no message body.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::call::{CorrelationId, Op};
use crate::key::{KeyRef, KeyVersion};

/// A result of a KMS call.
pub type Result<T> = std::result::Result<T, KmsError>;

/// A failed call: what happened, and where.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind} ({context})")]
pub struct KmsError {
    /// What happened.
    pub kind: ErrorKind,
    /// Where it happened.
    pub context: Box<ErrorContext>,
}

/// Where an error happened; all of it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorContext {
    /// The provider's name.
    pub provider: &'static str,
    /// The operation.
    pub op: Op,
    /// The root key; `None` for authentication and for configuration.
    pub key: Option<KeyRef>,
    /// The HTTP status, where there was an answer.
    pub http_status: Option<u16>,
    /// The vendor's error code, where the answer had one.
    pub code: Option<String>,
    /// The correlation id that was sent.
    pub correlation_id: Option<CorrelationId>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// No usable answer: the network, TLS, a timeout, a server error.
    #[error("kms unavailable: {why}")]
    Unavailable {
        /// What was in the way.
        why: Outage,
        /// How long the KMS asks to wait.
        retry_after: Option<Duration>,
    },
    /// Too many calls.
    #[error("kms throttles calls")]
    Throttled {
        /// How long the KMS asks to wait.
        retry_after: Option<Duration>,
    },
    /// The identity service rejects the credential: wrong, revoked or expired.
    #[error("credential rejected")]
    CredentialRejected,
    /// The credential or CA file cannot be read.
    #[error("credential unreadable")]
    CredentialUnreadable,
    /// The credential may not do this.
    #[error("access to the root key denied{}", if *.confirmed { "" } else { ", not confirmed yet" })]
    Denied {
        /// A second answer, long enough after the first, said the same. Only then is it a refusal.
        confirmed: bool,
    },
    /// The root key is disabled; its owner can enable it.
    #[error("root key disabled")]
    KeyDisabled,
    /// The root key unwraps but no longer wraps.
    #[error("root key expired")]
    KeyExpired,
    /// The root key waits for its deletion.
    #[error("root key is to be deleted")]
    KeyPendingDeletion {
        /// When it will be deleted.
        until: Option<SystemTime>,
    },
    /// The root key is deleted.
    #[error("root key destroyed")]
    KeyDestroyed {
        /// Until when it can be restored.
        recoverable_until: Option<SystemTime>,
    },
    /// The KMS knows no such root key.
    #[error("root key not found")]
    KeyNotFound,
    /// The root key version is disabled or destroyed, the root key is not.
    #[error("root key version unavailable")]
    VersionUnavailable {
        /// The version.
        version: Option<KeyVersion>,
    },
    /// Damaged blob, other root key or other context. Never worth another try.
    #[error("wrapped key or context invalid")]
    CiphertextInvalid,
    /// The answer came but cannot be trusted: malformed, too large, of a wrong type or length.
    #[error("unusable answer of the kms: {0}")]
    Integrity(&'static str),
    /// The KMS wants time to pass before this.
    #[error("too early")]
    TooEarly {
        /// How long.
        retry_after: Duration,
    },
    /// The provider has no such operation.
    #[error("operation not supported")]
    Unsupported,
    /// The KMS calls the request wrong.
    #[error("kms calls the request invalid")]
    Invalid,
    /// The configuration cannot work.
    #[error("configuration invalid: {0}")]
    Config(String),
}

/// What was in the way of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Outage {
    /// The name does not resolve, no connection, or it broke.
    #[error("unreachable")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The peer's certificate is not the one expected, or TLS failed otherwise.
    #[error("tls failed, check the certificate and the ca bundle")]
    TlsFailed,
    /// The CA bundle that must be trusted cannot be used.
    #[error("ca bundle unreadable")]
    CaUnreadable,
    /// A server error.
    #[error("server error")]
    ServerError,
    /// The breaker is open: the KMS failed just now, and is left alone for a moment.
    #[error("waiting after repeated failures")]
    CircuitOpen,
}

impl KmsError {
    /// An error of `kind` in an operation of `provider`, with nothing else known yet.
    pub fn new(kind: ErrorKind, provider: &'static str, op: Op) -> Self {
        let context =
            ErrorContext { provider, op, key: None, http_status: None, code: None, correlation_id: None };
        Self { kind, context: Box::new(context) }
    }

    /// The same, where no confirmation of a denial is waited for: no cached key hangs on an owner's operation.
    pub(crate) fn settled(mut self) -> Self {
        if let ErrorKind::Denied { confirmed } = &mut self.kind {
            *confirmed = true;
        }
        self
    }

    /// Another try may help.
    pub fn retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unavailable { .. }
                | ErrorKind::Throttled { .. }
                | ErrorKind::Integrity(_)
                | ErrorKind::TooEarly { .. }
        )
    }

    /// The KMS itself refuses the key: every cached key must be dropped, whatever grace there is.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Denied { confirmed: true }
                | ErrorKind::KeyDisabled
                | ErrorKind::KeyPendingDeletion { .. }
                | ErrorKind::KeyDestroyed { .. }
                | ErrorKind::KeyNotFound
                | ErrorKind::VersionUnavailable { .. }
        )
    }

    /// The KMS gave no usable answer: nothing is known about the key, and a grace may apply.
    pub fn is_outage(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unavailable { .. } | ErrorKind::Throttled { .. } | ErrorKind::Integrity(_)
        )
    }

    /// How long the KMS asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::Unavailable { retry_after, .. } | ErrorKind::Throttled { retry_after } => retry_after,
            ErrorKind::TooEarly { retry_after } => Some(retry_after),
            _ => None,
        }
    }

    /// A stable PascalCase word for conditions, events, check-ins and metrics.
    pub fn reason(&self) -> &'static str {
        match &self.kind {
            ErrorKind::Unavailable { why: Outage::Unreachable, .. } => "KmsUnreachable",
            ErrorKind::Unavailable { why: Outage::Timeout, .. } => "KmsTimeout",
            ErrorKind::Unavailable { why: Outage::TlsFailed, .. } => "TlsFailed",
            ErrorKind::Unavailable { why: Outage::CaUnreadable, .. } => "CaUnreadable",
            ErrorKind::Unavailable { why: Outage::ServerError, .. } => "KmsServerError",
            ErrorKind::Unavailable { why: Outage::CircuitOpen, .. } => "KmsCircuitOpen",
            ErrorKind::Throttled { .. } => "KmsThrottled",
            ErrorKind::CredentialRejected => "CredentialRejected",
            ErrorKind::CredentialUnreadable => "CredentialUnreadable",
            ErrorKind::Denied { .. } => "KeyAccessDenied",
            ErrorKind::KeyDisabled => "KeyDisabled",
            ErrorKind::KeyExpired => "KeyExpired",
            ErrorKind::KeyPendingDeletion { .. } => "KeyPendingDeletion",
            ErrorKind::KeyDestroyed { .. } => "KeyDestroyed",
            ErrorKind::KeyNotFound => "KeyNotFound",
            ErrorKind::VersionUnavailable { .. } => "KeyVersionUnavailable",
            ErrorKind::CiphertextInvalid => "CiphertextInvalid",
            ErrorKind::Integrity(_) => "KmsAnswerUnusable",
            ErrorKind::TooEarly { .. } => "KmsTooEarly",
            ErrorKind::Unsupported => "KmsUnsupported",
            ErrorKind::Invalid => "KmsRequestInvalid",
            ErrorKind::Config(_) => "KmsConfigInvalid",
        }
    }
}

impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, op, key, http_status, code, correlation_id } = self;
        write!(f, "{provider} {op}")?;
        if let Some(key) = key {
            write!(f, ", key {key}")?;
        }
        if let Some(status) = http_status {
            write!(f, ", http {status}")?;
        }
        if let Some(code) = code {
            write!(f, ", code {code}")?;
        }
        if let Some(id) = correlation_id {
            write!(f, ", correlation id {id}")?;
        }
        Ok(())
    }
}
