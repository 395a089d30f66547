//! What an answer of a Transit engine means: one pure function.
//!
//! The vendor has no codes, only sentences; those that matter are listed here, and the tests on a real server notice when one
//! changes. Invariant: a refusal needs the vendor's own error body. The same status with anything else in it says nothing about
//! the key.

use serde::Deserialize;

use crate::call::Op;
use crate::error::{ErrorKind, Outage};
use crate::http::Reply;

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx.
    Success,
    /// The token is not accepted, or may not do this: another one tells which.
    Token,
    /// It failed.
    Failed(ErrorKind),
}

const DISABLED: &str = "refusing to use soft-deleted key";
const MISSING: [&str; 3] = ["encryption key not found", "no existing key named", "key not found"];
const OLD_VERSION: &str = "disallowed by policy (too old)";
const BAD_BLOB: [&str; 4] =
    ["message authentication failed", "invalid ciphertext", "missing ciphertext", "missing 'context'"];
const NO_SUCH_PATH: [&str; 2] = ["unsupported path", "unsupported operation"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorBody {
    errors: Vec<String>,
    #[serde(default, rename = "warnings")]
    _warnings: Option<serde::de::IgnoredAny>,
}

/// The vendor's sentences; `None`: the answer does not come from it.
fn sentences(reply: &Reply) -> Option<Vec<String>> {
    if !reply.is_json() {
        return None;
    }
    serde_json::from_slice::<ErrorBody>(&reply.body).ok().map(|body| body.errors)
}

/// Judges an answer to `op`.
pub(super) fn judge(op: Op, reply: &Reply) -> Verdict {
    let retry_after = reply.retry_after;
    let errors = sentences(reply);
    let says = |text: &str| errors.iter().flatten().any(|error| error.contains(text));
    let outage = |why| ErrorKind::Unavailable { why, retry_after };
    let kind = match reply.status {
        200..=299 => return Verdict::Success,
        429 => ErrorKind::Throttled { retry_after },
        501 => ErrorKind::Unsupported,
        500 if says(DISABLED) => ErrorKind::KeyDisabled,
        408 => outage(Outage::Timeout),
        // 412: this node has not yet seen what another one wrote. 472 and 473: a standby of another site or of this one.
        500..=599 | 412 | 472 | 473 => outage(Outage::ServerError),
        300..=399 => ErrorKind::Integrity("it is a redirect"),
        _ if errors.is_none() => ErrorKind::Integrity("it is not an answer of vault"),
        403 => return Verdict::Token,
        404 | 405 if NO_SUCH_PATH.iter().any(|text| says(text)) => ErrorKind::Unsupported,
        // Without a sentence: nothing is there. With one: not even the engine is.
        404 => ErrorKind::KeyNotFound,
        _ if says(DISABLED) => ErrorKind::KeyDisabled,
        _ if MISSING.iter().any(|text| says(text)) => ErrorKind::KeyNotFound,
        _ if says(OLD_VERSION) => ErrorKind::VersionUnavailable { version: None },
        _ if takes_blob(op) && BAD_BLOB.iter().any(|text| says(text)) => ErrorKind::CiphertextInvalid,
        _ => ErrorKind::Invalid,
    };
    Verdict::Failed(kind)
}

fn takes_blob(op: Op) -> bool {
    matches!(op, Op::Unwrap | Op::Rewrap)
}

/// Why a login failed.
pub(super) fn judge_login(reply: &Reply) -> ErrorKind {
    match judge(Op::Authenticate, reply) {
        // A wrong role, secret or mount: its own words, whatever they are.
        Verdict::Token | Verdict::Failed(ErrorKind::Invalid | ErrorKind::KeyNotFound) => {
            ErrorKind::CredentialRejected
        }
        Verdict::Failed(kind) => kind,
        Verdict::Success => ErrorKind::Integrity("it lacks the token"),
    }
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
