//! What an answer of AWS KMS means: the vendor's error codes as one pure function.
//!
//! Nearly every refusal comes as HTTP 400, throttling too, so that the code alone tells them apart. Invariant: a refusal needs the
//! vendor's own error body. The same status with anything else in it says nothing about the key.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{ErrorKind, Outage};
use crate::http::Reply;

/// AWS starts no rotation while its own is due within this time.
const ROTATION_UNDER_WAY: Duration = Duration::from_mins(20);

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx.
    Success,
    /// These access keys may not, or count no more: other ones tell which. If they fare no better, this is it.
    Token(ErrorKind),
    /// The signature's time is too far from the service's.
    Clock,
    /// The key is in a state that does not allow this: the metadata say which.
    KeyState,
    /// It failed.
    Failed(ErrorKind),
}

/// A judged answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The vendor's code.
    pub(super) code: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: Option<String>,
}

/// Judges an answer.
pub(super) fn judge(reply: &Reply) -> Judged {
    let vendor = vendor_error(reply);
    let code = vendor.as_ref().map(|(code, _)| code.clone());
    let retry_after = reply.retry_after;
    let outage = |why| ErrorKind::Unavailable { why, retry_after };
    let kind = match (reply.status, &vendor) {
        (200..=299, _) => return Judged { verdict: Verdict::Success, code: None },
        (429, _) => ErrorKind::Throttled { retry_after },
        (501, _) => ErrorKind::Unsupported,
        (500..=599, _) => outage(Outage::ServerError),
        (408, _) => outage(Outage::Timeout),
        (300..=399, _) => ErrorKind::Integrity("it is a redirect"),
        (_, None) => ErrorKind::Integrity("it is not an answer of aws"),
        (_, Some((code, message))) => {
            let verdict = refused(code, message, retry_after);
            return Judged { verdict, code: Some(code.clone()) };
        }
    };
    Judged { verdict: Verdict::Failed(kind), code }
}

fn refused(code: &str, message: &str, retry_after: Option<Duration>) -> Verdict {
    let kind = match code {
        "AccessDeniedException" | "AccessDenied" => {
            return Verdict::Token(ErrorKind::Denied { confirmed: false });
        }
        "RequestTimeTooSkewed" | "RequestExpired" => return Verdict::Clock,
        "InvalidSignatureException" if out_of_time(message) => return Verdict::Clock,
        "ExpiredTokenException"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "UnrecognizedClientException" => return Verdict::Token(ErrorKind::CredentialRejected),
        "KMSInvalidStateException" => return Verdict::KeyState,
        "DisabledException" => ErrorKind::KeyDisabled,
        "NotFoundException" => ErrorKind::KeyNotFound,
        "IncorrectKeyException" | "InvalidCiphertextException" => ErrorKind::CiphertextInvalid,
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            ErrorKind::Throttled { retry_after }
        }
        "DependencyTimeoutException"
        | "InternalFailure"
        | "KeyUnavailableException"
        | "KMSInternalException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => ErrorKind::Unavailable { why: Outage::ServerError, retry_after },
        "ConflictException" => ErrorKind::TooEarly { retry_after: ROTATION_UNDER_WAY },
        "UnsupportedOperationException" | "UnknownOperationException" => ErrorKind::Unsupported,
        _ => ErrorKind::Invalid,
    };
    Verdict::Failed(kind)
}

/// The one code stands for a wrong signature and for a wrong time.
fn out_of_time(message: &str) -> bool {
    message.starts_with("Signature expired") || message.starts_with("Signature not yet current")
}

/// The vendor's code and message; `None`: the answer does not come from it.
fn vendor_error(reply: &Reply) -> Option<(String, String)> {
    if !reply.is_json() {
        return None;
    }
    let body: ErrorBody = serde_json::from_slice(&reply.body).ok()?;
    // With or without the namespace of the model before it.
    let code = body.kind.rsplit('#').next().unwrap_or_default();
    is_code(code).then(|| (code.to_owned(), body.message.unwrap_or_default()))
}

/// Only what looks like a code goes into errors and logs.
pub(super) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
