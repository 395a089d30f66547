//! What an answer of Cloud KMS means: the table of `google.rpc.Status` as one pure function.
//!
//! Invariant: a refusal needs the vendor's own error body, which repeats the status of the answer. The same status with anything
//! else in it (a proxy's page, half an answer) says nothing about the key.

use serde::Deserialize;

use crate::error::{ErrorKind, Outage};
use crate::http::Reply;
use crate::key::KeyState;

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx.
    Success,
    /// The token is not accepted, or may not do this: another one tells which.
    Token(Doubt),
    /// A version is not in a state for this: the key and the version say what that means.
    Precondition(Violation),
    /// It failed.
    Failed(ErrorKind),
}

/// What a second answer of this kind means, to a token that was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The service does not know the token.
    Unknown,
    /// The token may not do this.
    Denied,
}

impl Doubt {
    pub(super) fn settled(self) -> ErrorKind {
        match self {
            Self::Unknown => ErrorKind::CredentialRejected,
            Self::Denied => ErrorKind::Denied { confirmed: false },
        }
    }
}

/// What the service says of the version that stands in the way; nothing of it is certain to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Violation {
    /// Its state.
    pub(super) state: Option<KeyState>,
    /// Its name.
    pub(super) version: Option<String>,
}

/// A judged answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The vendor's most precise word for it.
    pub(super) code: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Status,
}

/// `google.rpc.Status` in JSON.
#[derive(Deserialize)]
struct Status {
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(rename = "status")]
    word: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    violations: Vec<RawViolation>,
}

#[derive(Deserialize)]
struct RawViolation {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    subject: String,
}

const PRECONDITION: &str = "type.googleapis.com/google.rpc.PreconditionFailure";
const INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Judges an answer; `opens`: the request held a wrapped key, which is all in it that we did not just make.
pub(super) fn judge(opens: bool, reply: &Reply) -> Judged {
    let retry_after = reply.retry_after;
    let vendor = vendor_error(reply);
    let code = vendor.as_ref().and_then(Status::precise_code);
    let failed = Verdict::Failed;
    let outage = |why| failed(ErrorKind::Unavailable { why, retry_after });
    let verdict = match (reply.status, &vendor) {
        (200..=299, _) => Verdict::Success,
        (429, _) => failed(ErrorKind::Throttled { retry_after }),
        (501, _) => failed(ErrorKind::Unsupported),
        (408 | 504, _) => outage(Outage::Timeout),
        // 499: the service gave up, as if we had.
        (499..=599, _) => outage(Outage::ServerError),
        (300..=399, _) => failed(ErrorKind::Integrity("it is a redirect")),
        (_, None) => failed(ErrorKind::Integrity("it is not an answer of google")),
        (_, Some(vendor)) => refused(opens, vendor),
    };
    Judged { verdict, code }
}

fn refused(opens: bool, vendor: &Status) -> Verdict {
    let failed = Verdict::Failed;
    match vendor.word.as_str() {
        "UNAUTHENTICATED" => Verdict::Token(Doubt::Unknown),
        "PERMISSION_DENIED" => Verdict::Token(Doubt::Denied),
        "NOT_FOUND" => failed(ErrorKind::KeyNotFound),
        "FAILED_PRECONDITION" => Verdict::Precondition(vendor.violation()),
        // Two changes at once.
        "ABORTED" => failed(ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None }),
        "ALREADY_EXISTS" => failed(ErrorKind::Config("a key of this name exists".into())),
        "INVALID_ARGUMENT" if vendor.is_about_a_checksum() => {
            failed(ErrorKind::Integrity("the request was damaged on its way"))
        }
        "INVALID_ARGUMENT" if opens => failed(ErrorKind::CiphertextInvalid),
        _ => failed(ErrorKind::Invalid),
    }
}

impl Status {
    /// "The checksum in field ... did not match the data in field ...": damage on the way, no wrong key.
    fn is_about_a_checksum(&self) -> bool {
        self.message.contains("checksum") || self.message.contains("crc32c")
    }

    fn violation(&self) -> Violation {
        let mut raw =
            self.details.iter().filter(|detail| detail.kind == PRECONDITION).flat_map(|d| &d.violations);
        let Some(raw) = raw.next() else { return Violation::default() };
        let state = match raw.kind.as_str() {
            "KEY_DISABLED" => Some(KeyState::Disabled),
            "KEY_DESTROY_SCHEDULED" => Some(KeyState::PendingDeletion),
            "KEY_DESTROYED" => Some(KeyState::Destroyed),
            _ => None,
        };
        Violation { state, version: Some(raw.subject.clone()) }
    }

    fn precise_code(&self) -> Option<String> {
        let of = |kind: &'static str| self.details.iter().filter(move |detail| detail.kind == kind);
        let reason = of(INFO).find_map(|detail| detail.reason.as_deref());
        let violated = of(PRECONDITION).find_map(|detail| detail.violations.first()).map(|v| v.kind.as_str());
        [reason, violated, Some(self.word.as_str())]
            .into_iter()
            .flatten()
            .find(|code| is_code(code))
            .map(str::to_owned)
    }
}

/// `None`: the answer does not come from Google.
fn vendor_error(reply: &Reply) -> Option<Status> {
    if !reply.is_json() {
        return None;
    }
    let body: ErrorBody = serde_json::from_slice(&reply.body).ok()?;
    Some(body.error).filter(|error| error.code == reply.status && is_code(&error.word))
}

/// Only what looks like a code goes into errors and logs.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Why no token was given.
pub(super) fn judge_login(reply: &Reply) -> (ErrorKind, Option<String>) {
    let Judged { verdict, code } = judge(false, reply);
    match (verdict, oauth_error(reply)) {
        // The way to say so of the token endpoints, which is not the one of the API.
        (Verdict::Failed(ErrorKind::Integrity(_)), Some(error)) if reply.status < 500 => {
            let passing = ["temporarily_unavailable", "server_error", "internal_failure"];
            let kind = if passing.contains(&error.as_str()) {
                ErrorKind::Unavailable { why: Outage::ServerError, retry_after: reply.retry_after }
            } else {
                ErrorKind::CredentialRejected
            };
            (kind, Some(error).filter(|error| is_code(error)))
        }
        (Verdict::Success, _) => (ErrorKind::Integrity("it lacks the token"), code),
        (
            Verdict::Failed(
                kind
                @ (ErrorKind::Unavailable { .. } | ErrorKind::Throttled { .. } | ErrorKind::Integrity(_)),
            ),
            _,
        ) => (kind, code),
        // In Google's own words: no such account, not allowed to speak for it, nothing of what was asked.
        _ => (ErrorKind::CredentialRejected, code),
    }
}

/// The error of RFC 6749; `None`: it is not one, or a redirect.
fn oauth_error(reply: &Reply) -> Option<String> {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    if !reply.is_json() || reply.status < 400 {
        return None;
    }
    serde_json::from_slice::<Refused>(&reply.body).ok().map(|refused| refused.error)
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
