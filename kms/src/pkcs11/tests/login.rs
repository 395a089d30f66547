//! A token locks itself after a few wrong PINs: how often each is shown to it.
#![allow(clippy::unwrap_used, clippy::panic)]

use cryptoki::error::RvError;

use crate::call::CallCtx;
use crate::error::{ErrorKind, KmsError};
use crate::http::fake::bare;
use crate::key::KeyRef;
use crate::pkcs11::Pkcs11;
use crate::pkcs11::tests::fake::{Fake, KEY, PIN};
use crate::pkcs11::token::Standing;
use crate::service::Kms;

async fn describe(kms: &Pkcs11) -> Result<(), KmsError> {
    kms.describe(&KeyRef(KEY.into()), &CallCtx::new()).await.map(drop)
}

fn rejected(error: &KmsError, code: &str) {
    assert_eq!(error.kind, ErrorKind::CredentialRejected, "{error}");
    assert_eq!(error.context.code.as_deref(), Some(code));
    assert!(!error.is_refusal() && !error.retryable());
}

#[tokio::test]
async fn a_wrong_pin_is_shown_once_whoever_has_it() {
    let fake = Fake::new();
    let (one, other) = (fake.connect("9999", &bare()), fake.connect("9999", &bare()));
    for _ in 0..10 {
        for kms in [&one, &other] {
            rejected(&describe(kms).await.unwrap_err(), "CKR_PIN_INCORRECT");
        }
    }
    assert_eq!(fake.calls("log_in"), 1);
    describe(&fake.connect(PIN, &bare())).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_anew_gets_another_try() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("pin");
    let kms = fake.connect_by_file(path.to_str().unwrap(), &bare());
    assert_eq!(describe(&kms).await.unwrap_err().kind, ErrorKind::CredentialUnreadable);
    std::fs::write(&path, "9999\n").unwrap();
    for _ in 0..5 {
        rejected(&describe(&kms).await.unwrap_err(), "CKR_PIN_INCORRECT");
    }
    assert_eq!(fake.calls("log_in"), 1);
    // The file is looked at once a second.
    let next = async |text: &str, tries: usize| {
        std::fs::write(dir.path().join("next"), text).unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while fake.calls("log_in") < tries {
            assert!(tokio::time::Instant::now() < until, "no try");
            let _ = describe(&kms).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    next("9999\n", 2).await;
    for _ in 0..5 {
        rejected(&describe(&kms).await.unwrap_err(), "CKR_PIN_INCORRECT");
    }
    assert_eq!(fake.calls("log_in"), 2);
    next("1234\n", 3).await;
    describe(&kms).await.unwrap();
}

#[tokio::test]
async fn the_last_try_is_never_ours() {
    for (standing, code) in [
        (Standing { final_try: true, locked: false }, "CKF_USER_PIN_FINAL_TRY"),
        (Standing { final_try: true, locked: true }, "CKF_USER_PIN_LOCKED"),
    ] {
        let fake = Fake::new();
        fake.state().standing = Ok(standing);
        let kms = fake.connect(PIN, &bare());
        rejected(&describe(&kms).await.unwrap_err(), code);
        assert_eq!(fake.calls("log_in"), 0);
        fake.state().standing = Ok(Standing::default());
        describe(&kms).await.unwrap();
    }
}

#[tokio::test]
async fn a_locked_token_is_not_asked_again_and_again() {
    let fake = Fake::new();
    fake.fail("log_in", RvError::PinLocked, usize::MAX);
    let kms = fake.connect(PIN, &bare());
    for _ in 0..10 {
        rejected(&describe(&kms).await.unwrap_err(), "CKR_PIN_LOCKED");
    }
    assert_eq!(fake.calls("log_in"), 1);
}

#[tokio::test]
async fn nobody_passes_on_the_login_of_another() {
    let fake = Fake::new();
    let (right, wrong) = (fake.connect(PIN, &bare()), fake.connect("9999", &bare()));
    describe(&right).await.unwrap();
    for _ in 0..3 {
        rejected(&describe(&wrong).await.unwrap_err(), "CKR_PIN_INCORRECT");
        describe(&right).await.unwrap();
    }
    // The wrong one was tried once, and the right one came back in once.
    assert_eq!((fake.calls("log_in"), fake.calls("log_out")), (3, 1));
}

#[tokio::test]
async fn a_hundred_calls_log_in_once() {
    let fake = Fake::new();
    let kms = fake.connect(PIN, &bare());
    for logins in 1..4 {
        let calls = (0..100).map(|_| describe(&kms));
        for done in futures::future::join_all(calls).await {
            done.unwrap();
        }
        assert_eq!(fake.calls("log_in"), logins);
        fake.log_out_all();
    }
}

#[tokio::test]
async fn what_is_said_of_a_login_holds_no_pin() {
    let fake = Fake::new();
    let kms = fake.connect("pin-that-nobody-may-see", &bare());
    let error = describe(&kms).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("nobody-may-see"));
}
