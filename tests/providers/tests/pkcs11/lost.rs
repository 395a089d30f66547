//! The token is lost and found again: an outage while it lasts, and nothing after it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kms::{CallCtx, KmsError, Op};
use providers::checks::CTX;
use providers::{Bench, Caller, SoftHsm};

use crate::{describe, once, unwrap, with_bench};

/// Not a word about the key.
fn outage(error: &KmsError) {
    assert!(error.is_outage() && error.retryable() && !error.is_refusal(), "{error}");
}

#[test]
fn a_library_that_was_finalised_is_initialised_again() {
    with_bench("lost::a_library_that_was_finalised_is_initialised_again", async |b| {
        let (one, other) = (b.connect(Caller::Data, &once()), b.connect(Caller::Data, &once()));
        let (plain, wrapped) = one.generate(&b.key(), &CTX, &CallCtx::new()).await.unwrap();
        unwrap(&other, &b, &wrapped).await.unwrap();
        for _ in 0..3 {
            b.reset_requests();
            b.finalize();
            for kms in [&one, &other] {
                assert_eq!(unwrap(kms, &b, &wrapped).await.unwrap(), *plain.expose());
            }
            assert_eq!(b.requests(Op::Authenticate), 1, "both use one login");
        }
    });
}

/// Takes something away and brings it back, and looks at all that can be asked meanwhile.
async fn away_and_back(b: SoftHsm, there: &Path, away: &Path) {
    let (kms, call) = (b.connect(Caller::Data, &once()), CallCtx::new());
    let (plain, wrapped) = kms.generate(&b.key(), &CTX, &call).await.unwrap();
    std::fs::rename(there, away).unwrap();
    for _ in 0..3 {
        for kms in [&kms, &b.connect(Caller::Data, &once())] {
            outage(&unwrap(kms, &b, &wrapped).await.unwrap_err());
            outage(&describe(kms, &b).await.unwrap_err());
            outage(&kms.generate(&b.key(), &CTX, &call).await.unwrap_err());
            outage(&kms.describe(&b.missing_key(), &call).await.unwrap_err());
        }
        outage(&b.owner().rotate(&b.key(), &call).await.unwrap_err());
        outage(&b.owner().delete(&b.key(), &call).await.unwrap_err());
    }
    std::fs::rename(away, there).unwrap();
    let back = Instant::now();
    loop {
        match unwrap(&kms, &b, &wrapped).await {
            Ok(opened) => break assert_eq!(opened, *plain.expose()),
            Err(error) => outage(&error),
        }
        assert!(back.elapsed() < Duration::from_secs(40), "never found again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unwrap(&b.connect(Caller::Data, &once()), &b, &wrapped).await.unwrap();
    let missing = kms.describe(&b.missing_key(), &call).await.unwrap_err();
    assert_eq!(missing.reason(), "KeyNotFound");
    assert_eq!(kms.versions(&b.key(), &call).await.unwrap().len(), 1, "nothing was made meanwhile");
}

#[test]
fn a_store_that_is_lost_is_an_outage_until_it_is_back() {
    with_bench("lost::a_store_that_is_lost_is_an_outage_until_it_is_back", async |b| {
        let (there, away) = (b.scene.tokens(), b.scene.elsewhere());
        away_and_back(b, &there, &away).await;
    });
}

/// The folder of the only token.
fn token(b: &SoftHsm) -> PathBuf {
    std::fs::read_dir(b.scene.tokens()).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_token_that_is_lost_is_an_outage_until_it_is_back() {
    with_bench("lost::a_token_that_is_lost_is_an_outage_until_it_is_back", async |b| {
        let (there, away) = (token(&b), b.scene.elsewhere());
        away_and_back(b, &there, &away).await;
    });
}

#[test]
fn a_token_that_was_never_there_is_no_word_about_the_key() {
    with_bench("lost::a_token_that_was_never_there_is_no_word_about_the_key", async |b| {
        let mut config = b.config("/not/read");
        let contract::config::Provider::Pkcs11(spec) = &mut config.provider else { unreachable!() };
        spec.token = "later".into();
        let kms = kms::connect_with_secret(&config, b.pin(), &once()).unwrap();
        let error = describe(&kms, &b).await.unwrap_err();
        outage(&error);
        assert_eq!(error.context.code.as_deref(), Some("no token of this label"));
        // Somebody makes it: from then on there is no such key in it.
        b.scene.make_token("later");
        let made = Instant::now();
        while let Err(error) = describe(&kms, &b).await {
            if error.reason() == "KeyNotFound" {
                break;
            }
            outage(&error);
            assert!(made.elapsed() < Duration::from_secs(40), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        describe(&b.connect(Caller::Data, &once()), &b).await.expect("the other token is still there");
    });
}
