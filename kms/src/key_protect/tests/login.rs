//! IAM: both kinds of credential, and the life of a token.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::fake::*;
use crate::call::CallCtx;
use crate::config::ProviderConfig;
use crate::connect::{Options, RetryPolicy, connect, connect_with_secret};
use crate::error::ErrorKind;
use crate::service::Kms;
use contract::config::Credential;

fn metadata() -> Say {
    ok(format!(r#"{{"resources":[{{"id":"{KEY}","state":1}}]}}"#))
}

fn given(fake: &Fake) -> Arc<dyn Kms> {
    connect_with_secret(&fake.config(), SecretString::from(API_KEY), &bare()).unwrap()
}

fn by_file(fake: &Fake, credential: Credential) -> Arc<dyn Kms> {
    let config = ProviderConfig { credential, ..fake.config() };
    connect(&config, &bare()).unwrap()
}

async fn describe(kms: &Arc<dyn Kms>) -> crate::Result<crate::KeyInfo> {
    kms.describe(&key(), &CallCtx::new()).await
}

fn iam_error(code: u16, word: &str) -> Say {
    status(
        code,
        JSON,
        format!(r#"{{"errorCode":"{word}","errorMessage":"m","context":{{"requestId":"r"}}}}"#),
    )
}

#[tokio::test]
async fn an_api_key_is_exchanged_as_a_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "a key&with=signs \n").unwrap();
    let fake = Fake::start(|_| metadata()).await;
    let kms = by_file(&fake, Credential::ApiKeyFile { path: path.to_str().unwrap().into() });
    describe(&kms).await.unwrap();
    let login = &fake.requests()[0];
    assert_eq!(login.line, "POST /identity/token");
    assert_eq!(login.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        login.body,
        "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=a+key%26with%3Dsigns"
    );
    assert_eq!(login.header("authorization"), None);
}

#[tokio::test]
async fn a_trusted_profile_is_entered_with_the_token_that_lies_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "jwt-1").unwrap();
    let mut number = 0;
    let fake = Fake::raw(move |request| {
        if !request.is_login() {
            return metadata();
        }
        number += 1;
        // Usable for 0.9 s only.
        token(&format!("t-{number}"), 1)
    })
    .await;
    let source = Credential::TrustedProfile {
        profile_id: "Profile-1".into(),
        token_path: path.to_str().unwrap().into(),
    };
    let kms = by_file(&fake, source);
    describe(&kms).await.unwrap();
    std::fs::write(&path, "jwt-2").unwrap();
    tokio::time::sleep(Duration::from_millis(950)).await;
    describe(&kms).await.unwrap();
    let logins: Vec<_> =
        fake.requests().into_iter().filter(Request::is_login).map(|login| login.body).collect();
    let body = |token: &str| {
        format!(
            "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Acr-token&cr_token={token}&profile_id=Profile-1"
        )
    };
    assert_eq!(logins, [body("jwt-1"), body("jwt-2")]);
}

#[tokio::test]
async fn a_hundred_first_calls_log_in_once() {
    let fake = Fake::start(|_| metadata()).await;
    let options = Options { max_concurrency: 100, ..bare() };
    let kms = connect_with_secret(&fake.config(), SecretString::from(API_KEY), &options).unwrap();
    let call = CallCtx::new();
    let keys: Vec<_> = (0..100).map(|n| crate::KeyRef(format!("key-{n}"))).collect();
    let all = futures::future::join_all(keys.iter().map(|key| kms.describe(key, &call))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((fake.logins(), fake.calls().len()), (1, 100));
}

#[tokio::test]
async fn a_hundred_calls_share_one_failed_login_too() {
    let fake = Fake::raw(|_| status(503, JSON, "{}")).await;
    let options = Options { max_concurrency: 100, ..bare() };
    let kms = connect_with_secret(&fake.config(), SecretString::from(API_KEY), &options).unwrap();
    let call = CallCtx::new();
    let keys: Vec<_> = (0..100).map(|n| crate::KeyRef(format!("key-{n}"))).collect();
    let all = futures::future::join_all(keys.iter().map(|key| kms.describe(key, &call))).await;
    assert!(all.iter().all(|result| result.as_ref().is_err_and(crate::KmsError::is_outage)));
    assert!(fake.logins() < 20, "{}", fake.logins());
}

#[tokio::test]
async fn a_token_is_renewed_at_four_fifths_of_its_life_while_it_goes_on_serving() {
    let mut logins = 0;
    let fake = Fake::raw(move |request| {
        if request.is_login() {
            logins += 1;
            return if logins == 1 { token("t-1", 2) } else { Say::BytesThenSilence(Vec::new()) };
        }
        metadata()
    })
    .await;
    let kms = given(&fake);
    describe(&kms).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1650)).await;
    let began = Instant::now();
    describe(&kms).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for the renewal");
    assert_eq!(fake.calls().last().unwrap().header("authorization"), Some("Bearer t-1"));
    let until = Instant::now() + Duration::from_secs(10);
    while fake.logins() < 2 {
        assert!(Instant::now() < until, "nobody renews it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_wall_clock_of_iam_does_not_matter() {
    // `expiration` says 1970 in every token of these tests.
    let fake = Fake::start(|_| metadata()).await;
    let kms = given(&fake);
    for _ in 0..3 {
        describe(&kms).await.unwrap();
    }
    assert_eq!(fake.logins(), 1);
}

#[tokio::test]
async fn a_wrong_api_key_is_said_so_and_not_tried_again_and_again() {
    let fake = Fake::raw(|_| iam_error(400, "BXNIM0415E")).await;
    let options = Options { retry: RetryPolicy::default(), ..bare() };
    let kms = connect_with_secret(&fake.config(), SecretString::from(API_KEY), &options).unwrap();
    for _ in 0..5 {
        let error = describe(&kms).await.unwrap_err();
        assert_eq!((error.reason(), error.retryable()), ("CredentialRejected", false));
        assert!(!error.is_refusal() && !error.is_outage());
        assert_eq!(error.context.code.as_deref(), Some("BXNIM0415E"));
        assert_eq!(error.context.http_status, Some(400));
        assert!(!format!("{error} {error:?}").contains(API_KEY));
    }
    assert_eq!(fake.logins(), 1);
}

#[tokio::test]
async fn an_iam_that_does_not_answer_properly_rejects_nothing() {
    let says = [
        (status(400, "text/html", "<html>bad request</html>"), "KmsAnswerUnusable"),
        (status(404, JSON, "{}"), "KmsAnswerUnusable"),
        (status(200, JSON, "{}"), "KmsAnswerUnusable"),
        (status(200, "text/html", "<html>"), "KmsAnswerUnusable"),
        (ok(r#"{"access_token":"","expires_in":3600}"#), "KmsAnswerUnusable"),
        (ok(r#"{"access_token":"a\nb","expires_in":3600}"#), "KmsAnswerUnusable"),
        (ok(r#"{"access_token":"a","expires_in":0}"#), "KmsAnswerUnusable"),
        (iam_error(429, "BXNIM0000E"), "KmsThrottled"),
        (iam_error(500, "BXNIM0000E"), "KmsServerError"),
        (Say::Reset, "KmsUnreachable"),
        (Say::Bytes(b"garbage".to_vec()), "KmsUnreachable"),
    ];
    for (say, reason) in says {
        let answer = say.clone();
        let fake = Fake::raw(move |_| answer.clone()).await;
        let error = describe(&given(&fake)).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{say:?}");
        assert!(error.is_outage() && !error.is_refusal());
    }
}

#[tokio::test]
async fn a_new_api_key_in_the_file_is_used_within_a_second_or_two() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "key-1").unwrap();
    let fake = Fake::raw(|request| {
        if !request.is_login() {
            return metadata();
        }
        let key = request.body.rsplit_once('=').unwrap().1.to_owned();
        token(&format!("token-of-{key}"), 3600)
    })
    .await;
    let kms = by_file(&fake, Credential::ApiKeyFile { path: path.to_str().unwrap().into() });
    describe(&kms).await.unwrap();
    std::fs::write(dir.path().join("next"), "key-2").unwrap();
    std::fs::rename(dir.path().join("next"), &path).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        describe(&kms).await.unwrap();
        if fake.calls().last().unwrap().header("authorization") == Some("Bearer token-of-key-2") {
            break;
        }
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fake.logins(), 2);
}

#[tokio::test]
async fn the_same_key_written_again_needs_no_login() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "key-1").unwrap();
    let fake = Fake::start(|_| metadata()).await;
    let kms = by_file(&fake, Credential::ApiKeyFile { path: path.to_str().unwrap().into() });
    describe(&kms).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1050)).await;
    std::fs::write(&path, "key-1").unwrap();
    for _ in 0..3 {
        describe(&kms).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fake.logins(), 1);
}

#[tokio::test]
async fn a_rejected_key_is_tried_again_as_soon_as_it_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "wrong").unwrap();
    let fake = Fake::raw(|request| match (request.is_login(), request.body.ends_with("right")) {
        (true, false) => iam_error(400, "BXNIM0415E"),
        (true, true) => token("t", 3600),
        _ => metadata(),
    })
    .await;
    let kms = by_file(&fake, Credential::ApiKeyFile { path: path.to_str().unwrap().into() });
    assert_eq!(describe(&kms).await.unwrap_err().kind, ErrorKind::CredentialRejected);
    std::fs::write(&path, "right").unwrap();
    describe(&kms).await.unwrap();
}

#[tokio::test]
async fn a_missing_or_empty_credential_file_is_said_so_without_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let fake = Fake::start(|_| metadata()).await;
    let kms = by_file(&fake, Credential::ApiKeyFile { path: path.to_str().unwrap().into() });
    let error = describe(&kms).await.unwrap_err();
    assert_eq!((error.reason(), error.is_refusal()), ("CredentialUnreadable", false));
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(describe(&kms).await.unwrap_err().reason(), "CredentialUnreadable");
    assert!(fake.requests().is_empty());
    std::fs::write(&path, "key").unwrap();
    describe(&kms).await.unwrap();
}
