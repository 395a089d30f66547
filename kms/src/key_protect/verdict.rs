//! What an answer of Key Protect means: the vendor's table of errors as one pure function.
//!
//! Invariant: a refusal needs the vendor's own error body. The same status with anything else in it (a proxy's
//! page, half an answer) says nothing about the key.

use std::time::Duration;

use serde::Deserialize;

use crate::call::Op;
use crate::error::{ErrorKind, Outage};
use crate::http::Reply;

/// Least time that Key Protect wants between two changes of a key's state.
const STATE_CHANGE_PAUSE: Duration = Duration::from_secs(30);
/// Least time between two rotations of one key.
pub(super) const ROTATION_PAUSE: Duration = Duration::from_hours(1);

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx.
    Success,
    /// The token is not accepted: get another one and ask once more.
    Token,
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
    resources: Vec<ErrorResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorResource {
    error_msg: String,
    #[serde(default)]
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    #[serde(default)]
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Judges an answer to `op`.
pub(super) fn judge(op: Op, reply: &Reply) -> Judged {
    let status = reply.status;
    let retry_after = reply.retry_after;
    let vendor = vendor_error(reply);
    let code = vendor.as_ref().and_then(|vendor| vendor.reason.as_ref()).map(|reason| reason.code.clone());
    let failed = Verdict::Failed;
    let verdict = match (status, &vendor) {
        (200..=299, _) => Verdict::Success,
        (429, _) => failed(ErrorKind::Throttled { retry_after }),
        (501, _) => failed(ErrorKind::Unsupported),
        (500..=599, _) => failed(ErrorKind::Unavailable { why: Outage::ServerError, retry_after }),
        (408, _) => failed(ErrorKind::Unavailable { why: Outage::Timeout, retry_after }),
        (300..=399, _) => failed(ErrorKind::Integrity("it is a redirect")),
        (401, _) => Verdict::Token,
        (_, None) => failed(ErrorKind::Integrity("it is not an answer of key protect")),
        (_, Some(vendor)) => refused(op, status, vendor.reason.as_ref()),
    };
    Judged { verdict, code }
}

/// A 401 that stays after a new token: a missing permission, where Key Protect itself says so.
pub(super) fn denied_for_good(reply: &Reply) -> ErrorKind {
    match vendor_error(reply) {
        Some(VendorError { reason: Some(reason) }) if reason.code == "BEARER_SUB_EXTRACTION_ERR" => {
            ErrorKind::CredentialRejected
        }
        Some(_) => ErrorKind::Denied { confirmed: false },
        None => ErrorKind::Integrity("it is not an answer of key protect"),
    }
}

fn refused(op: Op, status: u16, reason: Option<&Reason>) -> Verdict {
    let code = reason.map_or("", |reason| reason.code.as_str());
    let failed = Verdict::Failed;
    match (status, code) {
        (_, "BEARER_SUB_EXTRACTION_ERR") => Verdict::Token,
        (_, "KEY_ACTION_INVALID_STATE_ERR" | "KEY_INVALID_STATE_ERR") => Verdict::KeyState,
        (_, "KEY_EXPIRED_ERR") => failed(ErrorKind::KeyExpired),
        (_, "UNPROCESSABLE_CIPHERTEXT_ERR") => failed(ErrorKind::CiphertextInvalid),
        (400, "INVALID_FIELD_ERR") if about_ciphertext(op, reason) => failed(ErrorKind::CiphertextInvalid),
        (_, "REQ_TOO_EARLY_ERR") => failed(ErrorKind::TooEarly { retry_after: STATE_CHANGE_PAUSE }),
        (_, "KEY_ROTATION_NOT_PERMITTED") => failed(ErrorKind::TooEarly { retry_after: ROTATION_PAUSE }),
        (403, _) => failed(ErrorKind::Denied { confirmed: false }),
        (404, _) => failed(ErrorKind::KeyNotFound),
        (410, _) => failed(ErrorKind::KeyDestroyed { recoverable_until: None }),
        (422, _) if takes_ciphertext(op) => failed(ErrorKind::CiphertextInvalid),
        _ => failed(ErrorKind::Invalid),
    }
}

fn takes_ciphertext(op: Op) -> bool {
    matches!(op, Op::Unwrap | Op::Rewrap)
}

/// Of the fields that we send, only the ciphertext is not made anew for each call.
fn about_ciphertext(op: Op, reason: Option<&Reason>) -> bool {
    let target = reason.and_then(|reason| reason.target.as_ref());
    takes_ciphertext(op) && target.is_none_or(|target| target.name == "ciphertext")
}

/// Key Protect's own words, with a reason or without.
struct VendorError {
    reason: Option<Reason>,
}

/// `None`: the answer does not come from Key Protect.
fn vendor_error(reply: &Reply) -> Option<VendorError> {
    if !reply.is_json() {
        return None;
    }
    let body: ErrorBody = serde_json::from_slice(&reply.body).ok()?;
    let first = body.resources.into_iter().next()?;
    if first.error_msg.is_empty() && first.reasons.is_empty() {
        return None;
    }
    let reason = first.reasons.into_iter().next().filter(|reason| is_code(&reason.code));
    Some(VendorError { reason })
}

/// Only what looks like a code goes into errors and logs.
pub(super) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR_JSON: &str = "application/vnd.ibm.kms.error+json";

    fn vendor(status: u16, code: &str) -> Reply {
        let body = format!(
            r#"{{"metadata":{{"collectionType":"{ERROR_JSON}","collectionTotal":1}},
                "resources":[{{"errorMsg":"x: y","reasons":[{{"code":"{code}","message":"m","status":{status}}}]}}]}}"#
        );
        Reply::of(status, ERROR_JSON, &body)
    }

    fn verdict(op: Op, reply: &Reply) -> Verdict {
        judge(op, reply).verdict
    }

    #[test]
    fn every_row_of_the_vendors_table_has_its_meaning() {
        use ErrorKind as E;
        let failed = Verdict::Failed;
        let invalid = || failed(E::Invalid);
        let denied = || failed(E::Denied { confirmed: false });
        let rows = [
            (400, "BAD_BODY_ERR", invalid()),
            (400, "INVALID_FIELD_ERR", failed(E::CiphertextInvalid)),
            (400, "NO_BODY_ERR", invalid()),
            (400, "KEY_ROOT_REQ_ERR", invalid()),
            (400, "KEY_EXPIRED_ERR", failed(E::KeyExpired)),
            (400, "BEARER_SUB_EXTRACTION_ERR", Verdict::Token),
            (401, "UNAUTHORIZED_ERR", Verdict::Token),
            (403, "CONFIG_RULE_CONFLICT_ERR", denied()),
            (403, "FEATURE_RESTRICTED_ERR", denied()),
            (404, "KEY_NOT_FOUND_ERR", failed(E::KeyNotFound)),
            (409, "KEY_ACTION_INVALID_STATE_ERR", Verdict::KeyState),
            (409, "REQ_TOO_EARLY_ERR", failed(E::TooEarly { retry_after: STATE_CHANGE_PAUSE })),
            (409, "KEY_ROTATION_NOT_PERMITTED", failed(E::TooEarly { retry_after: ROTATION_PAUSE })),
            (409, "PROTECTED_RESOURCE_ERR", invalid()),
            (410, "KEY_DELETED_ERR", failed(E::KeyDestroyed { recoverable_until: None })),
            (422, "UNPROCESSABLE_CIPHERTEXT_ERR", failed(E::CiphertextInvalid)),
            (422, "KEY_INVALID_STATE_ERR", Verdict::KeyState),
            (429, "X", failed(E::Throttled { retry_after: None })),
            (
                500,
                "INCOMPLETE_METADATA_ERR",
                failed(E::Unavailable { why: Outage::ServerError, retry_after: None }),
            ),
            (501, "X", failed(E::Unsupported)),
            (503, "X", failed(E::Unavailable { why: Outage::ServerError, retry_after: None })),
        ];
        for (status, code, expected) in rows {
            let judged = judge(Op::Unwrap, &vendor(status, code));
            assert_eq!(judged.verdict, expected, "{status} {code}");
            assert_eq!(judged.code.as_deref(), Some(code));
        }
    }

    #[test]
    fn a_deleted_key_is_known_without_a_reason_code() {
        let body = r#"{"resources":[{"errorMsg":"Gone: The key is gone"}]}"#;
        let gone = Reply::of(410, "application/json", body);
        let expected = Verdict::Failed(ErrorKind::KeyDestroyed { recoverable_until: None });
        assert_eq!(verdict(Op::Unwrap, &gone), expected);
    }

    #[test]
    fn no_status_is_a_refusal_without_the_vendors_own_body() {
        let bodies = [
            ("text/html", "<html>not here</html>"),
            ("application/json", "{}"),
            ("application/json", r#"{"resources":[]}"#),
            ("application/json", r#"{"resources":[{"errorMsg":""}]}"#),
            ("application/json", r#"{"resources":[{"errorMsg":"Gone","reasons":[{"#),
            ("text/html", r#"{"resources":[{"errorMsg":"Gone: x"}]}"#),
        ];
        for status in (300..=499).chain(501..=599) {
            for (kind, body) in bodies {
                let reply = Reply::of(status, kind, body);
                let failed = match verdict(Op::Unwrap, &reply) {
                    Verdict::Token => denied_for_good(&reply),
                    Verdict::Failed(failed) => failed,
                    other => unreachable!("{status} {body}: {other:?}"),
                };
                let error = crate::KmsError::new(failed, "keyProtect", Op::Unwrap);
                let refusal = error.is_refusal() || matches!(error.kind, ErrorKind::Denied { .. });
                assert!(!refusal, "{status} {body}: {error}");
            }
        }
    }

    #[test]
    fn a_field_error_is_about_the_wrapped_key_only_where_one_was_sent() {
        let field = |name: &str| {
            let body = format!(
                r#"{{"resources":[{{"errorMsg":"x","reasons":[{{"code":"INVALID_FIELD_ERR","target":{{"name":"{name}"}}}}]}}]}}"#
            );
            Reply::of(400, ERROR_JSON, &body)
        };
        assert_eq!(verdict(Op::Rewrap, &field("ciphertext")), Verdict::Failed(ErrorKind::CiphertextInvalid));
        assert_eq!(verdict(Op::Rewrap, &field("aad")), Verdict::Failed(ErrorKind::Invalid));
        assert_eq!(verdict(Op::Wrap, &field("ciphertext")), Verdict::Failed(ErrorKind::Invalid));
    }

    #[test]
    fn a_code_that_is_no_code_is_not_carried_into_logs() {
        let body = r#"{"resources":[{"errorMsg":"x","reasons":[{"code":"evil\nline"}]}]}"#;
        assert_eq!(judge(Op::Wrap, &Reply::of(400, ERROR_JSON, body)).code, None);
    }
}
