//! Whose fault it was: the token's, the blob's or the key's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use cryptoki::error::RvError;

use crate::admin::KmsAdmin;
use crate::call::CallCtx;
use crate::error::{ErrorKind, KmsError};
use crate::http::fake::bare;
use crate::key::{KeyRef, KeyState, Wrapped};
use crate::pkcs11::Pkcs11;
use crate::pkcs11::tests::fake::{Fake, Ivs, KEY, PIN};
use crate::pkcs11::token::Failure;
use crate::service::Kms;

const CTX: [u8; 32] = [7; 32];

fn key() -> KeyRef {
    KeyRef(KEY.into())
}

async fn made() -> (Fake, Arc<Pkcs11>, Wrapped) {
    let fake = Fake::new();
    let kms = Arc::new(fake.connect(PIN, &bare()));
    let (_, wrapped) = kms.generate(&key(), &CTX, &CallCtx::new()).await.unwrap();
    fake.forget_calls();
    (fake, kms, wrapped)
}

async fn unwrap(kms: &Pkcs11, wrapped: &Wrapped) -> Result<(), KmsError> {
    kms.unwrap(&key(), wrapped, &CTX, &CallCtx::new()).await.map(drop)
}

fn damaged(wrapped: &Wrapped) -> Wrapped {
    let mut damaged = wrapped.clone();
    damaged.blob[60] ^= 1;
    damaged
}

#[tokio::test]
async fn a_general_error_is_the_blobs_fault_only_where_the_token_works_otherwise() {
    let (fake, kms, wrapped) = made().await;
    let error = unwrap(&kms, &damaged(&wrapped)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CiphertextInvalid, "{error}");
    assert_eq!((fake.calls("decrypt"), fake.calls("encrypt")), (3, 1), "it, a throw-away value, it again");
    // Once, on a good blob: what was the matter has passed.
    fake.fail("decrypt", RvError::GeneralError, 1);
    unwrap(&kms, &wrapped).await.unwrap();
    // For good: nobody can tell, so it is an outage.
    for rv in [RvError::GeneralError, RvError::FunctionFailed, RvError::VendorDefined(0x8000_0001)] {
        for blob in [&wrapped, &damaged(&wrapped)] {
            fake.fail("decrypt", rv, usize::MAX);
            let error = unwrap(&kms, blob).await.unwrap_err();
            assert!(error.is_outage() && error.retryable(), "{rv:?}: {error}");
            fake.heal();
        }
    }
    unwrap(&kms, &wrapped).await.unwrap();
}

#[tokio::test]
async fn a_plain_word_of_the_token_needs_no_second_look() {
    let (fake, kms, wrapped) = made().await;
    fake.fail("decrypt", RvError::EncryptedDataInvalid, 1);
    let error = unwrap(&kms, &wrapped).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CiphertextInvalid);
    assert_eq!(error.context.code.as_deref(), Some("CKR_ENCRYPTED_DATA_INVALID"));
    assert_eq!(fake.calls("decrypt"), 1);
}

#[tokio::test]
async fn where_nothing_may_be_encrypted_a_general_error_stays_an_outage() {
    let (fake, kms, wrapped) = made().await;
    fake.each(|found| found.encrypts = false);
    assert_eq!(kms.describe(&key(), &CallCtx::new()).await.unwrap().state, KeyState::Expired);
    let error = kms.generate(&key(), &CTX, &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyExpired);
    unwrap(&kms, &wrapped).await.unwrap();
    assert!(unwrap(&kms, &damaged(&wrapped)).await.unwrap_err().is_outage());
    assert_eq!(fake.calls("restart"), 0, "a blob does not end the sessions of others");
    // A newer version that encrypts shows that the token works.
    fake.add(2);
    assert_eq!(unwrap(&kms, &damaged(&wrapped)).await.unwrap_err().kind, ErrorKind::CiphertextInvalid);
}

#[tokio::test]
async fn nothing_found_is_believed_only_of_a_token_that_is_there() {
    let (fake, kms, wrapped) = made().await;
    let missing = KeyRef("missing".into());
    let call = CallCtx::new();
    assert_eq!(kms.describe(&missing, &call).await.unwrap_err().kind, ErrorKind::KeyNotFound);
    fake.state().standing = Err(Failure::Returned(RvError::GeneralError));
    for error in [
        kms.describe(&missing, &call).await.unwrap_err(),
        kms.unwrap(&missing, &wrapped, &CTX, &call).await.unwrap_err(),
        kms.create(&crate::admin::NewKey { name: "new".into(), description: None }, &call).await.unwrap_err(),
    ] {
        assert!(error.is_outage() && !error.is_refusal(), "{error}");
    }
    assert_eq!(fake.calls("generate"), 0);
}

#[tokio::test]
async fn nothing_found_by_nobody_is_looked_for_again_by_the_user() {
    let (fake, kms, wrapped) = made().await;
    for _ in 0..3 {
        fake.log_out_all();
        unwrap(&kms, &wrapped).await.unwrap();
        fake.log_out_all();
        let error = kms.describe(&KeyRef("missing".into()), &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyNotFound);
    }
    assert_eq!(fake.calls("log_in"), 6);
}

#[tokio::test]
async fn nothing_found_by_nobody_is_not_believed_because_somebody_logged_in_meanwhile() {
    let (fake, kms, wrapped) = made().await;
    fake.log_out_all();
    fake.block("logged_in");
    let (task, blob) = (Arc::clone(&kms), wrapped.clone());
    let under_way = tokio::spawn(async move { unwrap(&task, &blob).await });
    while fake.calls("logged_in") < 1 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    // It has found nothing. Now another call notices that nobody is logged in.
    fake.fail("find", RvError::UserNotLoggedIn, 1);
    kms.describe(&key(), &CallCtx::new()).await.unwrap();
    fake.unblock();
    under_way.await.unwrap().unwrap();
    assert_eq!(fake.calls("log_in"), 1);
}

#[tokio::test]
async fn a_destroyed_version_a_foreign_blob_and_damage_are_told_apart() {
    let (fake, kms, wrapped) = made().await;
    let call = CallCtx::new();
    fake.add(2);
    fake.each(|found| {
        if found.id[15] == 1 {
            found.id[15] = 9;
        }
    });
    let gone = ErrorKind::VersionUnavailable { version: wrapped.version.clone() };
    assert_eq!(unwrap(&kms, &wrapped).await.unwrap_err().kind, gone);
    let mut other_id = wrapped.clone();
    other_id.blob[5] ^= 1;
    assert_eq!(unwrap(&kms, &other_id).await.unwrap_err().kind, ErrorKind::CiphertextInvalid);
    kms.delete(&key(), &call).await.unwrap();
    assert_eq!(unwrap(&kms, &wrapped).await.unwrap_err().kind, ErrorKind::KeyNotFound);
}

#[tokio::test]
async fn a_key_that_is_disabled_while_it_is_used_says_so() {
    let (fake, kms, wrapped) = made().await;
    fake.fail("decrypt", RvError::KeyFunctionNotPermitted, 1);
    let error = unwrap(&kms, &wrapped).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied { confirmed: false }, "a policy of the token: {error}");
    // The object said yes, then the owner came.
    fake.block("decrypt");
    let (task, blob) = (Arc::clone(&kms), wrapped.clone());
    let under_way = tokio::spawn(async move { unwrap(&task, &blob).await });
    while fake.calls("decrypt") < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    fake.each(|found| (found.encrypts, found.decrypts) = (false, false));
    fake.unblock();
    assert_eq!(under_way.await.unwrap().unwrap_err().kind, ErrorKind::KeyDisabled);
}

#[tokio::test]
async fn a_disabled_key_is_not_rotated_and_an_enabled_one_wraps_with_its_newest_version_alone() {
    let (fake, kms, wrapped) = made().await;
    let call = CallCtx::new();
    fake.add(2);
    kms.set_enabled(&key(), false, &call).await.unwrap();
    assert_eq!(kms.rotate(&key(), &call).await.unwrap_err().kind, ErrorKind::KeyDisabled);
    assert_eq!(fake.calls("generate"), 0);
    kms.set_enabled(&key(), true, &call).await.unwrap();
    unwrap(&kms, &wrapped).await.unwrap();
    let mut encrypt = Vec::new();
    fake.each(|found| assert!(found.decrypts));
    let seen = std::sync::Mutex::new(&mut encrypt);
    fake.each(|found| seen.lock().unwrap().push(found.encrypts));
    assert_eq!(encrypt, [false, true]);
}

#[tokio::test]
async fn a_token_may_insist_on_its_own_iv_if_it_says_which() {
    for (ivs, works) in [(Ivs::Told, true), (Ivs::Hidden, false), (Ivs::Appended, false)] {
        let fake = Fake::new();
        fake.state().ivs = ivs;
        let kms = fake.connect(PIN, &bare());
        match kms.generate(&key(), &CTX, &CallCtx::new()).await {
            Ok((_, wrapped)) => {
                assert!(works, "a key that nobody could ever unwrap");
                assert_eq!(wrapped.blob[25..37], [0x77; 12]);
                unwrap(&kms, &wrapped).await.unwrap();
            }
            Err(error) => {
                let setup = matches!(error.kind, ErrorKind::Config(_));
                assert!(!works && (error.is_outage() || setup), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn an_object_that_is_there_twice_is_one_version() {
    let (fake, kms, _) = made().await;
    let twice = [fake.add(2), fake.add(2)];
    let listed = kms.versions(&key(), &CallCtx::new()).await.unwrap();
    let names: Vec<_> = listed.into_iter().map(|info| info.version).collect();
    assert_eq!((names.len(), &names[0]), (2, &twice[0].name()));
    kms.delete(&key(), &CallCtx::new()).await.unwrap();
    assert_eq!(fake.calls("destroy"), 3, "all of them are gone");
}

#[tokio::test]
async fn objects_that_leave_the_token_or_have_another_id_are_no_versions() {
    let (fake, kms, _) = made().await;
    fake.each(|found| found.fits = false);
    let error = kms.describe(&key(), &CallCtx::new()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Config(_)) && !error.is_refusal(), "{error}");
    let second = fake.add(2);
    fake.each(|found| {
        if found.id[15] == 1 {
            (found.fits, found.id) = (true, vec![1]);
        }
    });
    let info = kms.describe(&key(), &CallCtx::new()).await.unwrap();
    assert_eq!(info.current, Some(second.name()));
}
