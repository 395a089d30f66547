//! The vendor's table of errors, row by row, and what is no row of it.

use super::*;
use crate::call::Op;
use crate::error::KmsError;

const JSON: &str = "application/x-amz-json-1.1";

fn vendor(status: u16, code: &str, message: &str) -> Reply {
    Reply::of(status, JSON, &serde_json::json!({"__type": code, "message": message}).to_string())
}

#[test]
fn every_row_of_the_vendors_table_has_its_meaning() {
    use ErrorKind as E;
    let failed = Verdict::Failed;
    let rejected = || Verdict::Token(E::CredentialRejected);
    let outage = || failed(E::Unavailable { why: Outage::ServerError, retry_after: None });
    let throttled = || failed(E::Throttled { retry_after: None });
    for (status, code, message, expected) in [
        (400, "AccessDeniedException", "no", Verdict::Token(E::Denied { confirmed: false })),
        (400, "ExpiredTokenException", "expired", rejected()),
        (400, "UnrecognizedClientException", "invalid", rejected()),
        (403, "InvalidClientTokenId", "invalid", rejected()),
        (400, "InvalidSignatureException", "The request signature we calculated", rejected()),
        (400, "InvalidSignatureException", "Signature expired: a is now earlier than b", Verdict::Clock),
        (400, "InvalidSignatureException", "Signature not yet current: a is still later", Verdict::Clock),
        (403, "RequestTimeTooSkewed", "", Verdict::Clock),
        (400, "RequestExpired", "", Verdict::Clock),
        (400, "KMSInvalidStateException", "arn is pending deletion.", Verdict::KeyState),
        (400, "DisabledException", "arn is disabled.", failed(E::KeyDisabled)),
        (400, "NotFoundException", "", failed(E::KeyNotFound)),
        (404, "NotFoundException", "", failed(E::KeyNotFound)),
        (400, "IncorrectKeyException", "", failed(E::CiphertextInvalid)),
        (400, "InvalidCiphertextException", "", failed(E::CiphertextInvalid)),
        (400, "ThrottlingException", "Rate exceeded", throttled()),
        (400, "com.amazonaws.kms#ThrottlingException", "", throttled()),
        (429, "X", "", throttled()),
        (500, "KMSInternalException", "", outage()),
        (400, "KMSInternalException", "", outage()),
        (500, "KeyUnavailableException", "", outage()),
        (503, "DependencyTimeoutException", "", outage()),
        (400, "ConflictException", "", failed(E::TooEarly { retry_after: ROTATION_UNDER_WAY })),
        (400, "UnsupportedOperationException", "", failed(E::Unsupported)),
        (400, "ValidationException", "1 validation error", failed(E::Invalid)),
        (400, "LimitExceededException", "", failed(E::Invalid)),
        (501, "X", "", failed(E::Unsupported)),
    ] {
        let judged = judge(&vendor(status, code, message));
        assert_eq!(judged.verdict, expected, "{status} {code} {message}");
        assert_eq!(judged.code.as_deref(), code.rsplit('#').next(), "{code}");
    }
}

#[test]
fn no_status_is_a_refusal_without_the_vendors_own_body() {
    let bodies = [
        ("text/html", "<html>DisabledException</html>"),
        (JSON, "{}"),
        (JSON, r#"{"__type":""}"#),
        (JSON, r#"{"__type":["DisabledException"]}"#),
        (JSON, r#"{"message":"DisabledException"}"#),
        (JSON, r#"{"__type":"DisabledException""#),
        ("text/html", r#"{"__type":"DisabledException"}"#),
        ("text/xml", r#"{"__type":"AccessDeniedException"}"#),
    ];
    for status in 300..=599 {
        for (kind, body) in bodies {
            let Verdict::Failed(failed) = judge(&Reply::of(status, kind, body)).verdict else {
                unreachable!("{status} {body}")
            };
            let error = KmsError::new(failed, "aws", Op::Unwrap);
            assert!(!error.is_refusal(), "{status} {body}: {error}");
        }
    }
}

#[test]
fn a_code_that_is_no_code_is_not_carried_into_logs() {
    let judged = judge(&vendor(400, "evil\nline", ""));
    assert_eq!(judged.code, None);
    assert!(matches!(judged.verdict, Verdict::Failed(ErrorKind::Integrity(_))));
}
