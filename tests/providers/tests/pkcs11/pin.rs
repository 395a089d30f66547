//! How a real token is shown PINs: it would lock itself after a few wrong ones.

use std::time::{Duration, Instant};

use cryptoki::types::AuthPin;
use kms::{CallCtx, Op};
use providers::checks::CTX;
use providers::softhsm::Vendor;
use providers::{Bench, Caller};

use crate::{describe, once, unwrap, with_bench};

#[test]
fn a_wrong_pin_is_shown_once() {
    with_bench("pin::a_wrong_pin_is_shown_once", async |b| {
        let wrong = [b.connect(Caller::Nobody, &once()), b.connect(Caller::Nobody, &once())];
        b.reset_requests();
        for _ in 0..10 {
            for kms in &wrong {
                let error = describe(kms, &b).await.unwrap_err();
                assert_eq!((error.reason(), error.retryable()), ("CredentialRejected", false), "{error}");
                assert_eq!(error.context.code.as_deref(), Some("CKR_PIN_INCORRECT"));
            }
        }
        assert_eq!(b.requests(Op::Authenticate), 1);
        describe(&b.connect(Caller::Data, &once()), &b).await.unwrap();
    });
}

#[test]
fn a_wrong_pin_gets_nothing_while_another_connection_is_logged_in() {
    with_bench("pin::a_wrong_pin_gets_nothing_while_another_connection_is_logged_in", async |b| {
        let right = b.connect(Caller::Data, &once());
        let (_, wrapped) = right.generate(&b.key(), &CTX, &CallCtx::new()).await.unwrap();
        let wrong = b.connect(Caller::Nobody, &once());
        for _ in 0..3 {
            assert_eq!(unwrap(&wrong, &b, &wrapped).await.unwrap_err().reason(), "CredentialRejected");
            unwrap(&right, &b, &wrapped).await.unwrap();
        }
    });
}

#[test]
fn a_pin_that_was_changed_is_taken_from_its_file() {
    with_bench("pin::a_pin_that_was_changed_is_taken_from_its_file", async |b| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, b.secret(Caller::Data)).unwrap();
        let (kms, old) =
            (b.connect_by_file(path.to_str().unwrap(), &once()), b.connect(Caller::Data, &once()));
        describe(&kms, &b).await.unwrap();
        let vendor = Vendor::new();
        let (before, after) = (AuthPin::from(b.secret(Caller::Data)), AuthPin::from("another-pin"));
        vendor.0.set_pin(&before, &after).unwrap();
        describe(&kms, &b).await.expect("whoever is logged in stays so");
        b.reset_requests();
        std::fs::write(dir.path().join("next"), "another-pin\n").unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        let began = Instant::now();
        while b.requests(Op::Authenticate) == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "the file is not read again");
            describe(&kms, &b).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(describe(&old, &b).await.unwrap_err().reason(), "CredentialRejected");
        describe(&kms, &b).await.unwrap();
    });
}
