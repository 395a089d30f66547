//! What an answer of the vault, or of the identity service, means: two pure functions.
//!
//! Source: the REST reference and "REST API error codes" of Key Vault; the codes of inner errors as they are seen in the field.
//! Invariant: a refusal needs the vendor's own error body. The same status with anything else in it says nothing about the key,
//! and a door that a firewall keeps shut is an outage.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{ErrorKind, Outage};
use crate::http::Reply;

/// A recovery takes some seconds.
const RECOVERY: Duration = Duration::from_secs(5);

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx.
    Success,
    /// The token is not accepted, or may not do this: if a new one changes nothing, this is what it is.
    NewToken(Failed),
    /// It failed.
    Failed(Failed),
}

/// A failure and the vendor's word for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) kind: ErrorKind,
    pub(super) code: Option<String>,
}

/// What was in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// A wrapped key, which may be the reason why it fails.
    Blob,
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    code: String,
    #[serde(rename = "message")]
    _message: IgnoredAny,
    #[serde(default, alias = "innerError")]
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: Option<String>,
}

/// Judges an answer of the vault.
pub(super) fn judge(carried: Carried, reply: &Reply) -> Verdict {
    if (200..=299).contains(&reply.status) {
        return Verdict::Success;
    }
    if let Some(kind) = without_words(reply) {
        return Verdict::Failed(Failed { kind, code: None });
    }
    let body: Option<ErrorBody> = words(reply);
    let Some(ErrorBody { error: Fault { code, innererror, .. } }) = body else {
        let kind = ErrorKind::Integrity("it is not an answer of key vault");
        return Verdict::Failed(Failed { kind, code: None });
    };
    let inner = innererror.and_then(|inner| inner.code);
    let failed = |kind| Failed { kind, code: shown(inner.as_deref().unwrap_or(&code)) };
    match reply.status {
        401 => Verdict::NewToken(failed(ErrorKind::CredentialRejected)),
        403 => match forbidden(inner.as_deref()) {
            kind @ ErrorKind::Denied { .. } => Verdict::NewToken(failed(kind)),
            kind => Verdict::Failed(failed(kind)),
        },
        404 if code == "KeyNotFound" => Verdict::Failed(failed(ErrorKind::KeyNotFound)),
        404 => Verdict::Failed(failed(ErrorKind::Integrity("its 404 is not about a key"))),
        409 => Verdict::Failed(failed(conflict(inner.as_deref()))),
        400 if carried == Carried::Blob && code == "BadParameter" => {
            Verdict::Failed(failed(ErrorKind::CiphertextInvalid))
        }
        _ => Verdict::Failed(failed(ErrorKind::Invalid)),
    }
}

/// One status for five reasons.
fn forbidden(inner: Option<&str>) -> ErrorKind {
    match inner {
        Some("KeyDisabled") => ErrorKind::KeyDisabled,
        Some("KeyExpired") => ErrorKind::KeyExpired,
        Some("KeyNotYetValid") => ErrorKind::TooEarly { retry_after: Duration::from_mins(1) },
        // It says where we are, and nothing about who we are or what we may.
        Some("ForbiddenByFirewall" | "ForbiddenByConnection") => {
            ErrorKind::Unavailable { why: Outage::Unreachable, retry_after: None }
        }
        _ => ErrorKind::Denied { confirmed: false },
    }
}

fn conflict(inner: Option<&str>) -> ErrorKind {
    match inner {
        Some("ObjectIsDeletedButRecoverable" | "ObjectIsBeingDeleted") => {
            ErrorKind::KeyPendingDeletion { until: None }
        }
        Some("ObjectIsBeingRecovered") => ErrorKind::TooEarly { retry_after: RECOVERY },
        _ => ErrorKind::Invalid,
    }
}

#[derive(Deserialize)]
struct SignInError {
    error: String,
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// Why no token was issued.
pub(super) fn judge_sign_in(reply: &Reply) -> Failed {
    if let Some(kind) = without_words(reply) {
        return Failed { kind, code: None };
    }
    let Some(SignInError { error, error_codes }) = words(reply) else {
        return Failed { kind: ErrorKind::Integrity("it is not an answer of entra id"), code: None };
    };
    let code = error_codes.first().map(|number| format!("AADSTS{number}")).or_else(|| shown(&error));
    let kind = match error.as_str() {
        "temporarily_unavailable" | "server_error" => {
            ErrorKind::Unavailable { why: Outage::ServerError, retry_after: reply.retry_after }
        }
        _ => ErrorKind::CredentialRejected,
    };
    Failed { kind, code }
}

/// What a status means whoever sends it.
fn without_words(reply: &Reply) -> Option<ErrorKind> {
    let retry_after = reply.retry_after;
    Some(match reply.status {
        429 => ErrorKind::Throttled { retry_after },
        501 => ErrorKind::Unsupported,
        408 => ErrorKind::Unavailable { why: Outage::Timeout, retry_after },
        500..=599 => ErrorKind::Unavailable { why: Outage::ServerError, retry_after },
        300..=399 => ErrorKind::Integrity("it is a redirect"),
        400..=499 => return None,
        _ => ErrorKind::Integrity("its status is not one of this operation"),
    })
}

fn words<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Option<T> {
    reply.is_json().then(|| serde_json::from_slice(&reply.body).ok()).flatten()
}

/// A code that may be shown: one word.
fn shown(code: &str) -> Option<String> {
    let word = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    word.then(|| code.to_owned())
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
