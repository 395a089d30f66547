//! Failed calls are tried again, but not so often that a KMS in trouble gets more of it.
//!
//! Invariant: refusals and invalid ciphertexts are never retried; an unusable answer is, once. All calls of a
//! connection share one budget of retries. No wait reaches past the call's deadline.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Answer, Policy, Site};
use crate::call::CallCtx;
use crate::connect::RetryPolicy;
use crate::error::{ErrorKind, KmsError, Outage, Result};
use crate::observe::Observer;

/// The budget is counted in tenths of a retry.
const RETRY: u32 = 10;
const EARNED_BY_CALL: u32 = 1;

/// Full-jitter exponential backoff with a budget.
pub(super) struct Retry {
    policy: RetryPolicy,
    budget: Mutex<u32>,
    observer: Arc<dyn Observer>,
}

impl Retry {
    pub(super) fn new(policy: RetryPolicy, observer: &Arc<dyn Observer>) -> Self {
        let budget = Mutex::new(policy.budget.saturating_mul(RETRY));
        Self { policy, budget, observer: Arc::clone(observer) }
    }

    fn earn(&self) {
        let mut budget = self.budget.lock().expect("no holder of this lock panics");
        *budget = (*budget + EARNED_BY_CALL).min(self.policy.budget.saturating_mul(RETRY));
    }

    fn spend(&self) -> bool {
        let mut budget = self.budget.lock().expect("no holder of this lock panics");
        let left = budget.checked_sub(RETRY);
        *budget = left.unwrap_or(*budget);
        left.is_some()
    }

    /// How long to wait before try `tried + 1`; `None`: it is not worth one.
    fn wait(&self, error: &KmsError, tried: u32, call: &CallCtx) -> Option<Duration> {
        let attempts = match error.kind {
            // Left alone on purpose, or the same bad answer again.
            ErrorKind::Unavailable { why: Outage::CircuitOpen, .. } => 1,
            ErrorKind::Integrity(_) => self.policy.attempts.min(2),
            _ if error.retryable() => self.policy.attempts,
            _ => 1,
        };
        if tried >= attempts {
            return None;
        }
        let doubled = self.policy.base.saturating_mul(1 << (tried - 1).min(16));
        let wait = jitter(doubled.min(self.policy.cap)).max(error.retry_after().unwrap_or_default());
        let in_time = call.remaining().is_none_or(|left| wait < left);
        (in_time && self.spend()).then_some(wait)
    }
}

impl Policy for Retry {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        self.earn();
        let mut tried = 0;
        loop {
            let result = attempt(site.call.clone()).await;
            tried += 1;
            let Err(error) = &result else { return result };
            let Some(wait) = self.wait(error, tried, site.call) else { return result };
            self.observer.retry(site.op);
            tokio::time::sleep(wait).await;
        }
    }
}

/// A random part of `limit`. Without randomness the whole of it: later is the safe side.
fn jitter(limit: Duration) -> Duration {
    let part = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    limit.mul_f64(part)
}
