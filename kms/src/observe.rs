//! What programs may count: an observer that the decorators call, so that each program exports its own metrics.
//!
//! Invariant: labels are bounded (operation, outcome word); no key id, no correlation id, no secret.

use std::time::Duration;

use crate::call::{CallCtx, CorrelationId, Op};
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

/// The target of audit events: one for each exchange with the KMS or its identity service.
pub const AUDIT_TARGET: &str = "cofferdam::audit";

/// An attempt that ended, with all that may be known of it.
pub(crate) struct Ended<'a> {
    pub(crate) provider: &'static str,
    pub(crate) op: Op,
    pub(crate) key: Option<&'a KeyRef>,
    pub(crate) correlation_id: CorrelationId,
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
        call: &CallCtx,
        latency: Duration,
        failed: Option<&'a KmsError>,
    ) -> Self {
        let correlation_id = call.correlation_id;
        let (op, key, version, rewrapped) = (Op::Authenticate, None, None, None);
        Self { provider, op, key, correlation_id, latency, failed, version, rewrapped }
    }

    fn outcome(&self) -> &'static str {
        self.failed.map_or("Ok", KmsError::reason)
    }

    /// Writes the audit event.
    pub(crate) fn audit(&self) {
        let Self { provider, op, key, correlation_id, latency, failed, version, rewrapped } = self;
        tracing::info!(
            target: AUDIT_TARGET,
            provider,
            op = op.as_str(),
            key = key.map(|key| key.0.as_str()),
            outcome = self.outcome(),
            version = version.map(|version| version.0.as_str()),
            rewrapped_version = rewrapped.map(|version| version.0.as_str()),
            http_status = failed.and_then(|error| error.context.http_status),
            code = failed.and_then(|error| error.context.code.as_deref()),
            latency_ms = latency.as_millis() as u64,
            %correlation_id,
            "kms call"
        );
    }

    /// Tells the observer.
    pub(crate) fn count(&self, observer: &dyn Observer) {
        let (provider, op, latency) = (self.provider, self.op, self.latency);
        observer.attempt(&Attempt { provider, op, outcome: self.outcome(), latency });
    }
}
