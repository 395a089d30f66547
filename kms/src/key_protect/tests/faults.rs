//! Everything that can go wrong on the way is an outage, ends in time, and says nothing about the key.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::fake::*;
use crate::call::CallCtx;
use crate::connect::{Options, RetryPolicy, connect_with_secret};
use crate::error::KmsError;
use crate::key::PlainKey;
use crate::service::Kms;
use contract::config::KeyProtect;

const CTX: [u8; 32] = [1; 32];

fn kms(fake: &Fake, options: &Options) -> Arc<dyn Kms> {
    connect_with_secret(&fake.config(), SecretString::from(API_KEY), options).unwrap()
}

/// The error of every operation.
async fn all_errors(kms: &Arc<dyn Kms>) -> Vec<KmsError> {
    let (key, call, plain) = (key(), CallCtx::new(), PlainKey::from_bytes(&[5; 32]));
    vec![
        kms.describe(&key, &call).await.unwrap_err(),
        kms.generate(&key, &CTX, &call).await.unwrap_err(),
        kms.wrap(&key, &plain, &CTX, &call).await.unwrap_err(),
        kms.unwrap(&key, &wrapped(), &CTX, &call).await.unwrap_err(),
        kms.rewrap(&key, &wrapped(), &CTX, &call).await.unwrap_err(),
        kms.versions(&key, &call).await.unwrap_err(),
    ]
}

fn http(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn no_damaged_answer_is_ever_a_refusal_or_a_success() {
    let json = "200 OK\r\nContent-Type: application/json\r\nConnection: close";
    let faults = [
        ("garbage", Say::Bytes(b"\x16\x03\x01 what?".to_vec()), "KmsUnreachable"),
        ("nothing", Say::Bytes(Vec::new()), "KmsUnreachable"),
        ("reset", Say::Reset, "KmsUnreachable"),
        ("half a header", Say::Bytes(b"HTTP/1.1 200 OK\r\nConte".to_vec()), "KmsUnreachable"),
        (
            "truncated",
            Say::Bytes(http(&format!("{json}\r\nContent-Length: 500"), r#"{"plaintext":"AA"#)),
            "KmsUnreachable",
        ),
        ("half json", ok(r#"{"plaintext":"#), "KmsAnswerUnusable"),
        ("no fields", ok("{}"), "KmsAnswerUnusable"),
        ("a list", ok("[]"), "KmsAnswerUnusable"),
        ("html with 200", status(200, "text/html", "<html>hello</html>"), "KmsAnswerUnusable"),
        ("json called text", status(200, "text/plain", r#"{"ciphertext":"QUJD"}"#), "KmsAnswerUnusable"),
        ("no content type", status(200, "", "{}"), "KmsAnswerUnusable"),
        ("no content", status(204, "", ""), "KmsAnswerUnusable"),
        ("redirect", redirect("http://127.0.0.1:9/".into()), "KmsAnswerUnusable"),
        ("html with 404", status(404, "text/html", "<html>no such page</html>"), "KmsAnswerUnusable"),
        ("html with 410", status(410, "text/html", "<html>gone</html>"), "KmsAnswerUnusable"),
        ("html with 409", status(409, "text/html", ""), "KmsAnswerUnusable"),
        ("html with 403", status(403, "text/html", "<html>blocked</html>"), "KmsAnswerUnusable"),
        ("server error", vendor_error(500, "INCOMPLETE_METADATA_ERR"), "KmsServerError"),
        ("bad gateway", status(502, "text/html", "<html>"), "KmsServerError"),
    ];
    for (name, say, reason) in faults {
        let fake = Fake::start(move |_| say.clone()).await;
        for error in all_errors(&kms(&fake, &bare())).await {
            assert_eq!(error.reason(), reason, "{name}: {error}");
            assert!(error.is_outage() && error.retryable() && !error.is_refusal(), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_501_is_not_tried_again() {
    let fake = Fake::start(|_| status(501, ERROR_JSON, "{}")).await;
    let options = Options { retry: RetryPolicy::default(), ..bare() };
    let error = kms(&fake, &options).describe(&key(), &CallCtx::new()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_refusal(), fake.calls().len()), ("KmsUnsupported", false, 1));
}

#[tokio::test]
async fn a_kms_that_is_not_there_is_unreachable() {
    let fake = Fake::start(|_| Say::Reset).await;
    let nowhere = KeyProtect { endpoint: "http://127.0.0.1:1".into(), ..fake.root_key() };
    let config = config_of(nowhere);
    let kms = connect_with_secret(&config, SecretString::from(API_KEY), &bare()).unwrap();
    for error in all_errors(&kms).await {
        assert_eq!(error.reason(), "KmsUnreachable");
    }
}

#[tokio::test]
async fn silence_ends_with_the_attempt_or_with_the_deadline() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{".to_vec();
    for silence in [Vec::new(), b"HTTP/1.1 200".to_vec(), head] {
        let fake = Fake::start(move |_| Say::BytesThenSilence(silence.clone())).await;
        let options = Options { attempt_timeout: Duration::from_millis(150), ..bare() };
        let kms = kms(&fake, &options);
        let began = Instant::now();
        let error = kms.describe(&key(), &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.reason(), "KmsTimeout");
        let error = kms.describe(&key(), &CallCtx::within(Duration::from_millis(50))).await.unwrap_err();
        assert_eq!(error.reason(), "KmsTimeout");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let chunked = {
        let mut bytes = http("200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked", "");
        for _ in 0..64 {
            bytes.extend_from_slice(b"4000\r\n");
            bytes.extend_from_slice(&[b' '; 0x4000]);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    };
    let announced = http("200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999", "{");
    for bytes in [chunked, announced] {
        let fake = Fake::start(move |_| Say::BytesThenSilence(bytes.clone())).await;
        for error in all_errors(&kms(&fake, &bare())).await {
            assert_eq!(error.reason(), "KmsAnswerUnusable", "{error}");
            assert!(error.to_string().contains("too large"), "{error}");
        }
    }
}

fn redirect(to: String) -> Say {
    Say::Answer { status: 307, kind: JSON, headers: vec![("Location", to)], body: "{}".into() }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_takes_no_token_elsewhere() {
    let thief = Fake::start(|_| ok("{}")).await;
    let target = format!("http://{}/api/v2/keys", thief.at);
    let fake = Fake::start(move |_| redirect(target.clone())).await;
    all_errors(&kms(&fake, &bare())).await;
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn a_data_key_of_another_length_or_without_version_is_unusable() {
    let bodies = [
        r#"{"plaintext":"AAAA","ciphertext":"QUJD","keyVersion":{"id":"v"}}"#.to_owned(),
        format!(r#"{{"plaintext":"{}","ciphertext":"QUJD","keyVersion":{{"id":"v"}}}}"#, "A".repeat(44)),
        format!(r#"{{"plaintext":"{}","ciphertext":"QUJD","keyVersion":{{"id":"v"}}}}"#, "!".repeat(44)),
        r#"{"ciphertext":"","keyVersion":{"id":"v"}}"#.to_owned(),
        format!(r#"{{"plaintext":"{}=","ciphertext":"QUJD"}}"#, "A".repeat(43)),
    ];
    for body in bodies {
        let sent = body.clone();
        let fake = Fake::start(move |_| ok(sent.clone())).await;
        let error = kms(&fake, &bare()).generate(&key(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.reason(), "KmsAnswerUnusable", "{body}");
    }
}

#[tokio::test]
async fn throttling_is_told_with_the_wait_that_the_kms_asks_for() {
    let say = || Say::Answer {
        status: 429,
        kind: "text/plain",
        headers: vec![("Retry-After", "7".into())],
        body: "slow down".into(),
    };
    let fake = Fake::start(move |_| say()).await;
    for error in all_errors(&kms(&fake, &bare())).await {
        assert_eq!((error.reason(), error.retry_after()), ("KmsThrottled", Some(Duration::from_secs(7))));
        assert!(!error.is_refusal());
    }
}
