//! A KMS that does not answer is left alone for a moment.
//!
//! Invariant: only outages open the breaker. Any real answer, a refusal too, closes it; being throttled or having a
//! bad credential says nothing about the KMS's health.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Policy, Site};
use crate::call::CallCtx;
use crate::connect::BreakerPolicy;
use crate::error::{ErrorKind, KmsError, Outage, Result};
use crate::observe::{BreakerState, Observer};

/// Opens after a number of failures in a row; then one call at a time probes.
pub(super) struct Breaker {
    policy: BreakerPolicy,
    state: Mutex<State>,
    observer: Arc<dyn Observer>,
}

#[derive(Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

impl Breaker {
    pub(super) fn new(policy: BreakerPolicy, observer: &Arc<dyn Observer>) -> Self {
        Self { policy, state: Mutex::new(State::Closed { failures: 0 }), observer: Arc::clone(observer) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Lets a call pass, or says how long none will.
    fn admit(&self) -> std::result::Result<Pass<'_>, Duration> {
        let mut state = self.state();
        let now = Instant::now();
        match *state {
            State::Closed { .. } => Ok(Pass { breaker: self, probe: false, settled: false }),
            State::Open { until } if now >= until => {
                *state = State::Probing;
                self.observer.breaker(BreakerState::HalfOpen);
                Ok(Pass { breaker: self, probe: true, settled: false })
            }
            State::Open { until } => Err(until - now),
            State::Probing => Err(self.policy.open_for),
        }
    }
}

/// A call under way. One that is dropped before its end proves nothing: a probe makes room for another.
struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
    settled: bool,
}

impl Pass<'_> {
    fn settle(mut self, failed: Option<&KmsError>) {
        self.settled = true;
        let health = failed.map_or(Health::Answers, health);
        let mut state = self.breaker.state();
        let before = *state;
        *state = match (health, before, self.probe) {
            // A late answer of a call from before.
            (_, State::Open { .. } | State::Probing, false) | (Health::Unknown, State::Closed { .. }, _) => {
                before
            }
            (Health::Answers, ..) => State::Closed { failures: 0 },
            (Health::Down, State::Closed { failures }, _) if failures + 1 < self.breaker.policy.failures => {
                State::Closed { failures: failures + 1 }
            }
            (Health::Down, ..) => State::Open { until: Instant::now() + self.breaker.policy.open_for },
            (Health::Unknown, ..) => State::Open { until: Instant::now() },
        };
        let after = *state;
        drop(state);
        match (before, after) {
            (State::Probing, State::Closed { .. }) => self.breaker.observer.breaker(BreakerState::Closed),
            (State::Closed { .. } | State::Probing, State::Open { .. }) => {
                self.breaker.observer.breaker(BreakerState::Open);
            }
            _ => {}
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe && !self.settled {
            *self.breaker.state() = State::Open { until: Instant::now() };
        }
    }
}

enum Health {
    Answers,
    Down,
    Unknown,
}

fn health(error: &KmsError) -> Health {
    match error.kind {
        ErrorKind::Unavailable { .. } | ErrorKind::Integrity(_) => Health::Down,
        ErrorKind::Throttled { .. }
        | ErrorKind::CredentialRejected
        | ErrorKind::CredentialUnreadable
        | ErrorKind::Config(_) => Health::Unknown,
        _ => Health::Answers,
    }
}

impl Policy for Breaker {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        let pass = self.admit().map_err(|wait| {
            site.error(ErrorKind::Unavailable { why: Outage::CircuitOpen, retry_after: Some(wait) })
        })?;
        let result = attempt(site.call.clone()).await;
        pass.settle(result.as_ref().err());
        result
    }
}
