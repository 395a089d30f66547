//! The table of answers, row by row.

use super::*;
use crate::call::Op;
use crate::error::KmsError;

const JSON: &str = "application/json";

fn vendor(status: u16, code: &str, inner: Option<&str>) -> Reply {
    let mut error = serde_json::json!({"code": code, "message": "m"});
    if let Some(inner) = inner {
        error["innererror"] = serde_json::json!({"code": inner});
    }
    Reply::of(status, JSON, &serde_json::json!({"error": error}).to_string())
}

#[test]
fn every_answer_has_its_meaning() {
    use ErrorKind as E;
    let outage = |why| E::Unavailable { why, retry_after: None };
    let denied = || E::Denied { confirmed: false };
    let rows = [
        (400, "BadParameter", None, E::CiphertextInvalid),
        (400, "BadRequest", None, E::Invalid),
        (403, "Forbidden", Some("KeyDisabled"), E::KeyDisabled),
        (403, "Forbidden", Some("KeyExpired"), E::KeyExpired),
        (403, "Forbidden", Some("KeyNotYetValid"), E::TooEarly { retry_after: Duration::from_mins(1) }),
        (403, "Forbidden", Some("ForbiddenByFirewall"), outage(Outage::Unreachable)),
        (403, "Forbidden", Some("ForbiddenByConnection"), outage(Outage::Unreachable)),
        (404, "KeyNotFound", None, E::KeyNotFound),
        (404, "ResourceNotFound", None, E::Integrity("its 404 is not about a key")),
        (405, "MethodNotAllowed", None, E::Invalid),
        (408, "Timeout", None, outage(Outage::Timeout)),
        (409, "Conflict", Some("ObjectIsDeletedButRecoverable"), E::KeyPendingDeletion { until: None }),
        (409, "Conflict", Some("ObjectIsBeingDeleted"), E::KeyPendingDeletion { until: None }),
        (409, "Conflict", Some("ObjectIsBeingRecovered"), E::TooEarly { retry_after: RECOVERY }),
        (409, "Conflict", None, E::Invalid),
        (429, "Throttled", None, E::Throttled { retry_after: None }),
        (500, "InternalServerError", None, outage(Outage::ServerError)),
        (501, "NotImplemented", None, E::Unsupported),
        (503, "ServiceUnavailable", None, outage(Outage::ServerError)),
    ];
    for (status, code, inner, kind) in rows {
        let Verdict::Failed(failed) = judge(Carried::Blob, &vendor(status, code, inner)) else {
            unreachable!("{status} {code}")
        };
        assert_eq!(failed.kind, kind, "{status} {code} {inner:?}");
    }
    for (status, inner, kind) in [
        (401, None, E::CredentialRejected),
        (403, Some("ForbiddenByRbac"), denied()),
        (403, Some("ForbiddenByPolicy"), denied()),
        (403, Some("AccessDenied"), denied()),
        (403, None, denied()),
    ] {
        let verdict = judge(Carried::Blob, &vendor(status, "Forbidden", inner));
        let code = Some(inner.unwrap_or("Forbidden").to_owned());
        assert_eq!(verdict, Verdict::NewToken(Failed { kind, code }), "{status} {inner:?}");
    }
    let wrapping = judge(Carried::Other, &vendor(400, "BadParameter", None));
    let code = Some("BadParameter".to_owned());
    assert_eq!(wrapping, Verdict::Failed(Failed { kind: E::Invalid, code }), "no blob was sent");
    assert_eq!(judge(Carried::Blob, &Reply::of(200, JSON, "")), Verdict::Success);
}

#[test]
fn no_status_is_a_refusal_without_the_vendors_own_body() {
    let bodies = [
        ("text/html", r#"{"error":{"code":"KeyNotFound","message":"m"}}"#),
        (JSON, "{}"),
        (JSON, r#"{"error":"KeyNotFound"}"#),
        (JSON, r#"{"error":{"code":"KeyNotFound"}}"#),
        (JSON, r#"{"error":{"code":"KeyNotFound","message":"m""#),
        (JSON, r#"{"code":"KeyNotFound","message":"m"}"#),
    ];
    for status in 300..=599 {
        for (kind, body) in bodies {
            let Verdict::Failed(Failed { kind, .. }) = judge(Carried::Blob, &Reply::of(status, kind, body))
            else {
                unreachable!("{status} {body}")
            };
            let error = KmsError::new(kind, "azure", Op::Unwrap);
            assert!(!error.is_refusal(), "{status} {body}: {error}");
        }
    }
}

#[test]
fn a_code_is_shown_only_where_it_is_one_word() {
    for wrong in ["", "two words", "<html>", "a\nb", &"a".repeat(65)] {
        let Verdict::Failed(failed) = judge(Carried::Other, &vendor(400, wrong, None)) else {
            unreachable!("{wrong}")
        };
        assert_eq!(failed.code, None, "{wrong:?}");
    }
}
