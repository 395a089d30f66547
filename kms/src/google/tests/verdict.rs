//! The table of answers, row by row.

use serde_json::{Value, json};

use super::*;
use crate::call::Op;
use crate::error::KmsError;

const JSON: &str = "application/json";

fn vendor(status: u16, word: &str, message: &str, details: &Value) -> Reply {
    let error = json!({"code": status, "message": message, "status": word, "details": details});
    Reply::of(status, JSON, &json!({"error": error}).to_string())
}

fn plain(status: u16, word: &str) -> Reply {
    vendor(status, word, "words for people", &json!([]))
}

#[test]
fn every_answer_has_its_meaning() {
    use ErrorKind as E;
    let failed = Verdict::Failed;
    let outage = |why| failed(E::Unavailable { why, retry_after: None });
    let rows = [
        (400, "INVALID_ARGUMENT", failed(E::CiphertextInvalid)),
        (400, "FAILED_PRECONDITION", Verdict::Precondition(Violation::default())),
        (400, "OUT_OF_RANGE", failed(E::Invalid)),
        (401, "UNAUTHENTICATED", Verdict::Token(Doubt::Unknown)),
        (403, "PERMISSION_DENIED", Verdict::Token(Doubt::Denied)),
        (404, "NOT_FOUND", failed(E::KeyNotFound)),
        (409, "ABORTED", outage(Outage::ServerError)),
        (409, "ALREADY_EXISTS", failed(E::Config("a key of this name exists".into()))),
        (429, "RESOURCE_EXHAUSTED", failed(E::Throttled { retry_after: None })),
        (499, "CANCELLED", outage(Outage::ServerError)),
        (500, "INTERNAL", outage(Outage::ServerError)),
        (500, "DATA_LOSS", outage(Outage::ServerError)),
        (501, "UNIMPLEMENTED", failed(E::Unsupported)),
        (503, "UNAVAILABLE", outage(Outage::ServerError)),
        (504, "DEADLINE_EXCEEDED", outage(Outage::Timeout)),
    ];
    for (status, word, expected) in rows {
        let judged = judge(true, &plain(status, word));
        assert_eq!(judged.verdict, expected, "{status} {word}");
        assert_eq!(judged.code.as_deref(), Some(word));
    }
    let wrapping = judge(false, &plain(400, "INVALID_ARGUMENT")).verdict;
    assert_eq!(wrapping, failed(E::Invalid), "no wrapped key was sent");
}

#[test]
fn damage_on_the_way_is_no_wrong_key() {
    let said = "The checksum in field ciphertext_crc32c did not match the data in field ciphertext.";
    let judged = judge(true, &vendor(400, "INVALID_ARGUMENT", said, &json!([]))).verdict;
    assert!(matches!(judged, Verdict::Failed(ErrorKind::Integrity(_))), "{judged:?}");
}

#[test]
fn a_version_in_the_way_is_named_with_its_state() {
    for (kind, state) in [
        ("KEY_DISABLED", Some(KeyState::Disabled)),
        ("KEY_DESTROY_SCHEDULED", Some(KeyState::PendingDeletion)),
        ("KEY_DESTROYED", Some(KeyState::Destroyed)),
        ("KEY_SOMETHING_NEW", None),
    ] {
        let violations = json!([{"type": kind, "subject": "a/version"}]);
        let details = json!([{"@type": PRECONDITION, "violations": violations}]);
        let judged = judge(true, &vendor(400, "FAILED_PRECONDITION", "", &details));
        let expected = Violation { state, version: Some("a/version".into()) };
        assert_eq!(judged.verdict, Verdict::Precondition(expected), "{kind}");
        assert_eq!(judged.code.as_deref(), Some(kind));
    }
}

#[test]
fn the_most_precise_word_goes_into_errors_and_only_a_word() {
    let info = |reason: &str| json!([{"@type": INFO, "reason": reason, "domain": "googleapis.com"}]);
    let code = |reason: &str| judge(true, &vendor(403, "PERMISSION_DENIED", "", &info(reason))).code;
    assert_eq!(code("SERVICE_DISABLED").as_deref(), Some("SERVICE_DISABLED"));
    assert_eq!(code("evil\nline").as_deref(), Some("PERMISSION_DENIED"));
}

#[test]
fn no_status_is_a_refusal_without_the_vendors_own_body() {
    let bodies = [
        ("text/html", "<html>not here</html>"),
        (JSON, "{}"),
        (JSON, r#"{"error":"NOT_FOUND"}"#),
        (JSON, r#"{"error":{"status":"NOT_FOUND","message":"x"}}"#),
        (JSON, r#"{"error":{"code":200,"status":"NOT_FOUND","message":"x"}}"#),
        (JSON, r#"{"error":{"code":404,"status":"NOT_FOUND""#),
        ("text/html", r#"{"error":{"code":404,"status":"NOT_FOUND"}}"#),
    ];
    for status in (300..=599).filter(|status| *status != 501) {
        for (kind, body) in bodies {
            if kind == JSON && status == 404 && body.ends_with("}}") && body.contains("404") {
                continue;
            }
            let verdict = judge(true, &Reply::of(status, kind, body)).verdict;
            let Verdict::Failed(kind) = verdict else { unreachable!("{status} {body}: {verdict:?}") };
            let error = KmsError::new(kind, "google", Op::Unwrap);
            assert!(error.is_outage() && !error.is_refusal(), "{status} {body}: {error}");
        }
    }
}

#[test]
fn a_login_is_rejected_in_the_services_own_words_only() {
    let oauth = |status, error: &str| Reply::of(status, JSON, &json!({"error": error}).to_string());
    for rejected in [
        oauth(400, "invalid_grant"),
        oauth(401, "unauthorized_client"),
        oauth(400, "invalid_target"),
        plain(403, "PERMISSION_DENIED"),
        plain(404, "NOT_FOUND"),
        plain(401, "UNAUTHENTICATED"),
        plain(400, "FAILED_PRECONDITION"),
    ] {
        let (kind, code) = judge_login(&rejected);
        assert_eq!(kind, ErrorKind::CredentialRejected, "{code:?}");
        assert!(code.is_some());
    }
    for other in [
        Reply::of(403, "text/html", "<html>"),
        Reply::of(400, JSON, "{}"),
        Reply::of(302, JSON, r#"{"error":"invalid_grant"}"#),
        oauth(400, "temporarily_unavailable"),
        oauth(500, "invalid_grant"),
        oauth(503, "server_error"),
        oauth(429, "rate_limit_exceeded"),
        plain(409, "ABORTED"),
        plain(503, "UNAVAILABLE"),
        Reply::of(200, JSON, "{}"),
    ] {
        let error = KmsError::new(judge_login(&other).0, "google", Op::Authenticate);
        assert!(error.is_outage(), "{error}");
    }
}
