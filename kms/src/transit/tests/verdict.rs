//! The table of answers, row by row.

use super::*;
use crate::error::KmsError;

const JSON: &str = "application/json";

fn vendor(status: u16, says: &[&str]) -> Reply {
    Reply::of(status, JSON, &serde_json::json!({"errors": says}).to_string())
}

#[test]
fn every_answer_has_its_meaning() {
    use ErrorKind as E;
    let failed = Verdict::Failed;
    let outage = || failed(E::Unavailable { why: Outage::ServerError, retry_after: None });
    let rows: Vec<(u16, &[&str], Verdict)> = vec![
        (400, &["refusing to use soft-deleted key"], failed(E::KeyDisabled)),
        (500, &["1 error occurred:\n\t* refusing to use soft-deleted key\n\n"], failed(E::KeyDisabled)),
        (400, &["encryption key not found"], failed(E::KeyNotFound)),
        (400, &["no existing key named k could be found"], failed(E::KeyNotFound)),
        (404, &[], failed(E::KeyNotFound)),
        (404, &["no handler for route \"t/keys/k\". route entry not found."], failed(E::KeyNotFound)),
        (404, &["1 error occurred:\n\t* unsupported path\n\n"], failed(E::Unsupported)),
        (405, &["1 error occurred:\n\t* unsupported operation\n\n"], failed(E::Unsupported)),
        (
            400,
            &["ciphertext or signature version is disallowed by policy (too old)"],
            failed(E::VersionUnavailable { version: None }),
        ),
        (400, &["cipher: message authentication failed"], failed(E::CiphertextInvalid)),
        (400, &["invalid ciphertext: version is too new"], failed(E::CiphertextInvalid)),
        (400, &["missing 'context' for key derivation; the key was"], failed(E::CiphertextInvalid)),
        (400, &["deletion is not allowed for this key"], failed(E::Invalid)),
        (403, &["permission denied"], Verdict::Token),
        (412, &["required index state not present"], outage()),
        (429, &["request path: rate limit quota exceeded"], failed(E::Throttled { retry_after: None })),
        (472, &[], outage()),
        (473, &[], outage()),
        (500, &["internal error"], outage()),
        (501, &["not initialized"], failed(E::Unsupported)),
        (503, &["Vault is sealed"], outage()),
    ];
    for (status, says, expected) in rows {
        assert_eq!(judge(Op::Unwrap, &vendor(status, says)), expected, "{status} {says:?}");
    }
    let wrapping = judge(Op::Wrap, &vendor(400, &["invalid ciphertext: no prefix"]));
    assert_eq!(wrapping, Verdict::Failed(E::Invalid), "no blob was sent");
}

#[test]
fn no_status_is_a_refusal_without_the_vendors_own_body() {
    let bodies = [
        ("text/html", "<html>refusing to use soft-deleted key</html>"),
        (JSON, "{}"),
        (JSON, r#"{"errors":"encryption key not found"}"#),
        (JSON, r#"{"errors":["encryption key not found"],"status":404}"#),
        (JSON, r#"{"errors":["refusing to use soft-deleted key""#),
        ("text/html", r#"{"errors":["encryption key not found"]}"#),
    ];
    for status in (300..=499).chain(502..=599) {
        for (kind, body) in bodies {
            let Verdict::Failed(kind) = judge(Op::Unwrap, &Reply::of(status, kind, body)) else {
                unreachable!("{status} {body}")
            };
            let error = KmsError::new(kind, "transit", Op::Unwrap);
            assert!(!error.is_refusal(), "{status} {body}: {error}");
        }
    }
}

#[test]
fn a_login_is_rejected_in_the_servers_own_words_only() {
    for (status, says) in [
        (400, "invalid role or secret ID"),
        (400, "invalid role name \"x\""),
        (403, "permission denied"),
        (404, "no handler for route \"auth/x/login\""),
    ] {
        assert_eq!(judge_login(&vendor(status, &[says])), ErrorKind::CredentialRejected, "{status} {says}");
    }
    for other in [
        Reply::of(403, "text/html", "<html>"),
        Reply::of(400, JSON, "{}"),
        vendor(503, &["Vault is sealed"]),
        vendor(500, &["internal error"]),
        Reply::of(200, JSON, "{}"),
    ] {
        let error = KmsError::new(judge_login(&other), "transit", Op::Authenticate);
        assert!(error.is_outage(), "{error}");
    }
}
