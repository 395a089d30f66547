//! Google Cloud KMS against the emulator, which Google's own client passes too, and what only this vendor has.
#![allow(clippy::unwrap_used, clippy::panic)]

mod checksums;
mod identity;
mod states;

use std::time::Duration;

use kms::{BreakerPolicy, Options, RetryPolicy};

/// No cache, no second chances.
fn once() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        breaker: BreakerPolicy { failures: u32::MAX, ..BreakerPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

providers::for_each_check!(providers::conformance_tests!(providers::Google));
