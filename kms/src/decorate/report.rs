//! Audit events and counts of every exchange with the KMS.
//!
//! Invariant: each attempt that ended is reported once, whatever its outcome; answers from the cache are none.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Answer, Policy, Site};
use crate::admin::{Ability, KmsAdmin, NewKey, Permission};
use crate::call::{CallCtx, Op};
use crate::error::Result;
use crate::key::KeyRef;
use crate::observe::{Auditor, Ended, Observer};

/// Keeps the audit trail.
pub(super) struct Audit {
    auditor: Arc<dyn Auditor>,
}

impl Audit {
    pub(super) fn new(auditor: &Arc<dyn Auditor>) -> Self {
        Self { auditor: Arc::clone(auditor) }
    }
}

impl Policy for Audit {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        timed(site, attempt(site.call.clone()), |ended: &Ended<'_>| self.auditor.record(ended.event())).await
    }
}

/// Tells the observer.
pub(super) struct Metrics {
    observer: Arc<dyn Observer>,
}

impl Metrics {
    pub(super) fn new(observer: &Arc<dyn Observer>) -> Self {
        Self { observer: Arc::clone(observer) }
    }
}

impl Policy for Metrics {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        timed(site, attempt(site.call.clone()), |ended: &Ended<'_>| ended.count(&*self.observer)).await
    }
}

/// Makes an exchange, and tells its end with the time that it took. A future does nothing before it is awaited, so that the
/// time begins here.
async fn timed<T: Answer>(
    site: Site<'_>,
    exchange: impl Future<Output = Result<T>>,
    tell: impl FnOnce(&Ended<'_>),
) -> Result<T> {
    let began = Instant::now();
    let result = exchange.await;
    let answer = result.as_ref().ok();
    if answer.is_some_and(|answer| !answer.asked()) {
        return result;
    }
    tell(&Ended {
        provider: site.provider,
        op: site.op,
        key: Some(answer.and_then(Answer::created).unwrap_or(site.key)),
        call: site.call,
        latency: began.elapsed(),
        failed: result.as_ref().err(),
        version: answer.and_then(Answer::version),
        rewrapped: answer.and_then(Answer::rewrapped),
    });
    result
}

/// The owner's side with audit events and counts, and nothing that repeats a call.
pub(crate) struct AuditedAdmin {
    inner: Arc<dyn KmsAdmin>,
    provider: &'static str,
    observer: Arc<dyn Observer>,
    auditor: Arc<dyn Auditor>,
}

impl AuditedAdmin {
    pub(crate) fn new(
        inner: Arc<dyn KmsAdmin>,
        provider: &'static str,
        observer: &Arc<dyn Observer>,
        auditor: &Arc<dyn Auditor>,
    ) -> Self {
        Self { inner, provider, observer: Arc::clone(observer), auditor: Arc::clone(auditor) }
    }

    async fn reported<T: Answer>(
        &self,
        op: Op,
        key: &KeyRef,
        call: &CallCtx,
        exchange: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let site = Site { provider: self.provider, op, key, call };
        let tell = |ended: &Ended<'_>| {
            self.auditor.record(ended.event());
            ended.count(&*self.observer);
        };
        timed(site, exchange, tell).await
    }
}

#[async_trait]
impl KmsAdmin for AuditedAdmin {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        // It has no name until it is there.
        self.reported(Op::Create, &KeyRef(String::new()), call, self.inner.create(new, call)).await
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        self.reported(Op::Rotate, key, call, self.inner.rotate(key, call)).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let op = if enabled { Op::Enable } else { Op::Disable };
        self.reported(op, key, call, self.inner.set_enabled(key, enabled, call)).await
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        self.reported(Op::Delete, key, call, self.inner.delete(key, call)).await
    }

    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        self.reported(Op::Restore, key, call, self.inner.restore(key, call)).await
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let exchange = self.inner.set_auto_rotation(key, interval, call);
        self.reported(Op::SetRotationPolicy, key, call, exchange).await
    }

    async fn may(&self, what: Ability, key: &KeyRef, call: &CallCtx) -> Result<Permission> {
        self.reported(Op::Permissions, key, call, self.inner.may(what, key, call)).await
    }
}
