//! Every call ends in time.
//!
//! Invariant: what is inside always sees a deadline, and no answer comes later than it.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Policy, Site};
use crate::call::CallCtx;
use crate::error::{ErrorKind, KmsError, Outage, Result};

/// Gives calls without a deadline one, and enforces it.
pub(super) struct Deadline {
    default: Duration,
}

impl Deadline {
    pub(super) fn new(default: Duration) -> Self {
        Self { default }
    }
}

impl Policy for Deadline {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        let deadline = site.call.deadline.unwrap_or_else(|| Instant::now() + self.default);
        let call = CallCtx { deadline: Some(deadline), ..site.call.clone() };
        let timed_out = || site.error(ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None });
        tokio::time::timeout_at(deadline, attempt(call)).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

impl Site<'_> {
    /// An error that arises here and not at the KMS.
    pub(super) fn error(&self, kind: ErrorKind) -> KmsError {
        let mut error = KmsError::new(kind, self.provider, self.op);
        error.context.key = Some(self.key.clone());
        error.context.correlation_id = Some(self.call.correlation_id);
        error
    }
}
