//! Libraries that block, sessions that are lost, changes that must not be made twice.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cryptoki::error::RvError;

use crate::admin::KmsAdmin;
use crate::call::CallCtx;
use crate::connect::Options;
use crate::error::KmsError;
use crate::http::fake::bare;
use crate::key::KeyRef;
use crate::pkcs11::Pkcs11;
use crate::pkcs11::tests::fake::{Fake, KEY, PIN};
use crate::service::Kms;

fn key() -> KeyRef {
    KeyRef(KEY.into())
}

async fn describe(kms: &Pkcs11) -> Result<(), KmsError> {
    kms.describe(&key(), &CallCtx::new()).await.map(drop)
}

fn narrow() -> Options {
    Options { max_concurrency: 2, attempt_timeout: Duration::from_millis(150), ..bare() }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_call_that_does_not_return_ends_in_time_and_keeps_its_place() {
    let fake = Fake::new();
    let kms = fake.connect(PIN, &narrow());
    describe(&kms).await.unwrap();
    for call in ["find", "open", "log_in"] {
        fake.log_out_all();
        if call == "open" {
            // The idle session is given up too.
            fake.fail("find", RvError::SessionHandleInvalid, 1);
        }
        fake.block(call);
        for _ in 0..5 {
            let began = Instant::now();
            let error = describe(&kms).await.unwrap_err();
            assert_eq!(error.reason(), "KmsTimeout", "{call}: {error}");
            assert!(began.elapsed() < Duration::from_secs(5), "{call}");
        }
        assert!(kms.pool.places() < 2, "{call}: it is given to nobody else");
        assert!(fake.state().most_open <= 2, "{call}");
        fake.unblock();
        until("they return", || kms.pool.places() == 2).await;
        describe(&kms).await.unwrap();
        assert_eq!(fake.state().open, kms.pool.idle(), "{call}");
    }
}

#[test]
fn a_library_that_never_returns_does_not_hold_up_the_end_of_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = Fake::new();
    let kms = fake.connect(PIN, &narrow());
    fake.block("find");
    runtime.block_on(async { describe(&kms).await.unwrap_err() });
    let began = Instant::now();
    drop(runtime);
    assert!(began.elapsed() < Duration::from_secs(5));
    fake.unblock();
}

#[tokio::test]
async fn what_is_lost_is_had_again_once() {
    let fake = Fake::new();
    let kms = fake.connect(PIN, &bare());
    describe(&kms).await.unwrap();
    for rv in [
        RvError::UserNotLoggedIn,
        RvError::SessionHandleInvalid,
        RvError::SessionClosed,
        RvError::ObjectHandleInvalid,
        RvError::CryptokiNotInitialized,
        RvError::TokenNotPresent,
        RvError::DeviceRemoved,
        RvError::DeviceError,
        RvError::GeneralError,
    ] {
        fake.fail("find", rv, 1);
        describe(&kms).await.unwrap_or_else(|error| panic!("{rv:?}: {error}"));
        assert_eq!(fake.state().open, kms.pool.idle(), "{rv:?}: a session leaked");
        fake.fail("find", rv, usize::MAX);
        fake.forget_calls();
        let error = describe(&kms).await.unwrap_err();
        assert!(error.is_outage() && error.retryable() && !error.is_refusal(), "{rv:?}: {error}");
        assert_eq!(fake.calls("find"), 2, "{rv:?}");
        fake.heal();
        describe(&kms).await.unwrap();
        fake.log_out_all();
    }
}

#[tokio::test]
async fn a_broken_device_is_not_initialised_again_and_again() {
    let fake = Fake::new();
    let kms = fake.connect(PIN, &bare());
    fake.fail("find", RvError::DeviceError, usize::MAX);
    for _ in 0..5 {
        assert!(describe(&kms).await.unwrap_err().is_outage());
    }
    assert_eq!(fake.calls("restart"), 1);
    fake.heal();
    describe(&kms).await.unwrap();
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_made_again() {
    let fake = Fake::new();
    let kms = fake.connect(PIN, &bare());
    let call = CallCtx::new();
    for rv in [RvError::DeviceError, RvError::GeneralError, RvError::VendorDefined(0x8000_0001)] {
        fake.fail("generate", rv, 1);
        fake.forget_calls();
        assert!(kms.rotate(&key(), &call).await.unwrap_err().is_outage(), "{rv:?}");
        assert_eq!(fake.calls("generate"), 1, "{rv:?}");
    }
    for rv in [RvError::SessionHandleInvalid, RvError::UserNotLoggedIn] {
        fake.fail("generate", rv, 1);
        fake.forget_calls();
        kms.rotate(&key(), &call).await.unwrap();
        assert_eq!(fake.calls("generate"), 2, "{rv:?}: it was certainly not made");
    }
}

#[tokio::test]
async fn no_session_outlives_its_connection() {
    let fake = Fake::new();
    let kms = Arc::new(fake.connect(PIN, &bare()));
    let calls = (0..50).map(|_| describe(&kms));
    futures::future::join_all(calls).await.into_iter().for_each(|done| done.unwrap());
    kms.rotate(&key(), &CallCtx::new()).await.unwrap();
    assert!((1..=16).contains(&fake.state().open) && fake.state().most_open <= 17);
    assert_eq!(fake.state().open, kms.pool.idle(), "sessions that change something are not kept");
    drop(kms);
    until("all are closed", || fake.state().open == 0).await;
}
