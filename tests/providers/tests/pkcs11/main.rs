//! PKCS#11 against a real SoftHSM token: every check of the suite, and what only a token has.
#![allow(clippy::unwrap_used, clippy::panic)]

mod lost;
mod objects;
mod pin;

use std::sync::Arc;
use std::time::Duration;

use kms::{CallCtx, Kms, KmsError, Options, RetryPolicy, Wrapped};
use providers::checks::CTX;
use providers::{Bench, SoftHsm};

providers::for_each_check!(providers::conformance_tests_apart!());

/// No cache, no second chances.
fn once() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

async fn unwrap(kms: &Arc<dyn Kms>, b: &SoftHsm, wrapped: &Wrapped) -> Result<[u8; 32], KmsError> {
    let unwrapped = kms.unwrap(&b.key(), wrapped, &CTX, &CallCtx::new()).await?;
    Ok(*unwrapped.key.expose())
}

async fn describe(kms: &Arc<dyn Kms>, b: &SoftHsm) -> Result<kms::KeyInfo, KmsError> {
    kms.describe(&b.key(), &CallCtx::new()).await
}

/// Runs a test in a process of its own, with a bench.
fn with_bench(test: &str, check: impl AsyncFnOnce(SoftHsm)) {
    providers::softhsm::apart(test, async {
        let bench = SoftHsm::start(false).await.unwrap();
        check(bench).await;
    });
}
