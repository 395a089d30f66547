//! The checks: each is a function over a bench, and its name says what holds.
//!
//! Invariant: a check leaves nothing that another one could see; each has a bench of its own.

mod connection;
mod keys;
mod lifecycle;
mod secrets;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use kms::{
    BreakerPolicy, CallCtx, EncCtx, KeyRef, Kms, KmsError, Op, Options, RetryPolicy, Unwrapped, Wrapped,
};

use crate::bench::{Bench, Caller, Trouble};

pub use {connection::*, keys::*, lifecycle::*, secrets::*, transport::*};

/// The context that every check wraps with.
pub const CTX: EncCtx = [0x5a; 32];

/// A minute of the owner's patience, which the vendor's rules may want between two changes.
const PATIENCE: Duration = Duration::from_mins(1);

/// No cache, no second chances.
fn bare() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        attempt_timeout: Duration::from_secs(5),
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        breaker: BreakerPolicy { failures: u32::MAX, ..BreakerPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

async fn unwrap(kms: &Arc<dyn Kms>, key: &KeyRef, wrapped: &Wrapped) -> Result<Unwrapped, KmsError> {
    kms.unwrap(key, wrapped, &CTX, &CallCtx::new()).await
}

/// Rotates after as long a pause as the vendor wants.
async fn rotate(bench: &impl Bench) {
    bench.advance(Duration::from_hours(2)).await;
    bench.owner().rotate(&bench.key(), &CallCtx::new()).await.unwrap();
}
