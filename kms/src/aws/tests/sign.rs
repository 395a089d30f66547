//! The signatures that AWS published for its test suite, and what a signature must depend on.

#![allow(clippy::unwrap_used)]

use super::*;

const STAMP: &str = "20150830T123600Z";
const HOST: (&str, &str) = ("host", "example.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", STAMP);

fn keys() -> AccessKeys {
    AccessKeys {
        id: "AKIDEXAMPLE".into(),
        secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
        session: None,
    }
}

fn signed(headers: &[(&str, &str)], body: &[u8]) -> String {
    authorization(&keys(), Scope { region: "us-east-1", service: "service" }, STAMP, headers, body)
}

fn published(names: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={signature}"
    )
}

#[test]
fn the_published_signatures_come_out() {
    assert_eq!(
        signed(&[HOST, DATE], b""),
        published("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        "post-vanilla"
    );
    assert_eq!(
        signed(&[("content-type", "application/x-www-form-urlencoded"), HOST, DATE], b"Param1=value1"),
        published(
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        ),
        "post-x-www-form-urlencoded"
    );
    let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    assert_eq!(
        signed(&[HOST, DATE, ("x-amz-security-token", token)], b""),
        published(
            "host;x-amz-date;x-amz-security-token",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        ),
        "post-sts-header-before"
    );
}

#[test]
fn a_moment_is_spelled_as_the_header_has_it() {
    assert_eq!(stamp("2015-08-30T12:36:00.999Z".parse().unwrap()), STAMP);
}

#[test]
fn everything_that_is_signed_counts() {
    let usual = signed(&[HOST, DATE], b"{}");
    let scope = |region, service| Scope { region, service };
    let elsewhere = |of| authorization(&keys(), of, STAMP, &[HOST, DATE], b"{}");
    let other = AccessKeys { secret: Zeroizing::new("other".into()), ..keys() };
    for changed in [
        signed(&[HOST, DATE], b"{ }"),
        signed(&[("host", "example.org"), DATE], b"{}"),
        signed(&[HOST, DATE, ("x-amz-target", "T.A")], b"{}"),
        elsewhere(scope("us-east-2", "service")),
        elsewhere(scope("us-east-1", "kms")),
        authorization(&other, scope("us-east-1", "service"), STAMP, &[HOST, DATE], b"{}"),
        authorization(&keys(), scope("us-east-1", "service"), "20150830T123601Z", &[HOST, DATE], b"{}"),
    ] {
        let of = |text: &str| text.rsplit_once('=').unwrap().1.to_owned();
        assert_ne!(of(&changed), of(&usual), "{changed}");
    }
}
