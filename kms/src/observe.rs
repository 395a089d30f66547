//! What programs are told: an observer that counts, and an auditor that keeps a record of each exchange.
//!
//! Invariant: labels of what is counted are bounded (operation, outcome word); no key id, no correlation id. No secret in either.

use std::time::Duration;

use contract::audit::{Event, Exchange};

use crate::call::{CallCtx, Op};
use crate::error::KmsError;
use crate::key::{KeyRef, KeyVersion};

/// One call to the KMS itself: each attempt counts, an answer from the cache does not.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The provider's name.
    pub provider: &'static str,
    /// The operation.
    pub op: Op,
    /// `Ok`, or [`KmsError::reason`](crate::KmsError::reason).
    pub outcome: &'static str,
    /// How long it took.
    pub latency: Duration,
}

/// What the unwrap cache did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheEvent {
    /// Answered from the cache.
    Hit,
    /// Asked the KMS.
    Miss,
    /// Answered from the cache past its TTL, because the KMS is down and a grace is configured.
    Grace,
    /// Everything was dropped.
    Purge,
}

/// The state of the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// One call may probe.
    HalfOpen,
    /// Calls fail at once.
    Open,
}

/// Told about everything that is worth counting; must not block.
pub trait Observer: Send + Sync {
    /// An attempt ended.
    fn attempt(&self, attempt: &Attempt) {
        let _ = attempt;
    }
    /// A call is tried again.
    fn retry(&self, op: Op) {
        let _ = op;
    }
    /// The cache did something.
    fn cache(&self, event: CacheEvent) {
        let _ = event;
    }
    /// The breaker changed its state.
    fn breaker(&self, state: BreakerState) {
        let _ = state;
    }
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Keeps the audit trail: one event for each exchange with the KMS or its identity service, and what a program adds.
pub trait Auditor: Send + Sync {
    /// Something was done.
    fn record(&self, event: Event);
}

/// The target of audit events in the log of a program that keeps no trail.
pub const AUDIT_TARGET: &str = "cofferdam::audit";

/// Writes audit events into the program's log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged;

impl Auditor for Logged {
    fn record(&self, event: Event) {
        let Event { operation, outcome, subject, exchange } = event;
        let Some(exchange) = exchange else {
            tracing::info!(target: AUDIT_TARGET, %operation, %outcome, ?subject, "done");
            return;
        };
        tracing::info!(
            target: AUDIT_TARGET,
            provider = &*exchange.provider,
            op = &*operation,
            key = exchange.root_key,
            outcome = &*outcome,
            version = exchange.key_version,
            rewrapped_version = exchange.rewrapped_version,
            http_status = exchange.http_status,
            code = exchange.code,
            latency_ms = exchange.latency_ms,
            correlation_id = exchange.correlation_id,
            "kms call"
        );
    }
}

/// An attempt that ended, with all that may be known of it.
pub(crate) struct Ended<'a> {
    pub(crate) provider: &'static str,
    pub(crate) op: Op,
    pub(crate) key: Option<&'a KeyRef>,
    pub(crate) call: &'a CallCtx,
    pub(crate) latency: Duration,
    pub(crate) failed: Option<&'a KmsError>,
    /// The version that was used.
    pub(crate) version: Option<&'a KeyVersion>,
    /// The version that the key was rewrapped with.
    pub(crate) rewrapped: Option<&'a KeyVersion>,
}

impl<'a> Ended<'a> {
    pub(crate) fn authentication(
        provider: &'static str,
        call: &'a CallCtx,
        latency: Duration,
        failed: Option<&'a KmsError>,
    ) -> Self {
        let (op, key, version, rewrapped) = (Op::Authenticate, None, None, None);
        Self { provider, op, key, call, latency, failed, version, rewrapped }
    }

    fn outcome(&self) -> &'static str {
        self.failed.map_or("Ok", KmsError::reason)
    }

    /// What the audit trail keeps of it.
    pub(crate) fn event(&self) -> Event {
        let Self { provider, op, key, call, latency, failed, version, rewrapped } = *self;
        let text = |version: &KeyVersion| version.0.clone();
        let exchange = Exchange {
            provider: provider.into(),
            root_key: key.map(|key| key.0.clone()),
            key_version: version.map(text),
            rewrapped_version: rewrapped.map(text),
            http_status: failed.and_then(|error| error.context.http_status),
            code: failed.and_then(|error| error.context.code.clone()),
            latency_ms: latency.as_millis() as u64,
            correlation_id: call.correlation_id.to_string(),
        };
        let subject = call.subject.as_deref().cloned().unwrap_or_default();
        Event { exchange: Some(exchange), ..Event::new(op.as_str(), self.outcome(), subject) }
    }

    /// Tells the observer.
    pub(crate) fn count(&self, observer: &dyn Observer) {
        let (provider, op, latency) = (self.provider, self.op, self.latency);
        observer.attempt(&Attempt { provider, op, outcome: self.outcome(), latency });
    }
}
