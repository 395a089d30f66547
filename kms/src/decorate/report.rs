//! Audit events and counts of every exchange with the KMS.
//!
//! Invariant: each attempt that ended is reported once, whatever its outcome; answers from the cache are none.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Answer, Policy, Site};
use crate::admin::{KmsAdmin, NewKey};
use crate::call::{CallCtx, Op};
use crate::error::Result;
use crate::key::KeyRef;
use crate::observe::{Ended, Observer};

/// Writes audit events.
pub(super) struct Audit;

impl Policy for Audit {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        let began = Instant::now();
        let result = attempt(site.call.clone()).await;
        ended(site, began, &result).audit();
        result
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
        let began = Instant::now();
        let result = attempt(site.call.clone()).await;
        ended(site, began, &result).count(&*self.observer);
        result
    }
}

fn ended<'a, T: Answer>(site: Site<'a>, began: Instant, result: &'a Result<T>) -> Ended<'a> {
    let answer = result.as_ref().ok();
    Ended {
        provider: site.provider,
        op: site.op,
        key: Some(site.key),
        correlation_id: site.call.correlation_id,
        latency: began.elapsed(),
        failed: result.as_ref().err(),
        version: answer.and_then(Answer::version),
        rewrapped: answer.and_then(Answer::rewrapped),
    }
}

/// The owner's side with audit events and counts, and nothing that repeats a call.
pub(crate) struct AuditedAdmin {
    inner: Arc<dyn KmsAdmin>,
    provider: &'static str,
    observer: Arc<dyn Observer>,
}

impl AuditedAdmin {
    pub(crate) fn new(
        inner: Arc<dyn KmsAdmin>,
        provider: &'static str,
        observer: &Arc<dyn Observer>,
    ) -> Self {
        Self { inner, provider, observer: Arc::clone(observer) }
    }

    fn report<T: Answer>(&self, op: Op, key: &KeyRef, call: &CallCtx, began: Instant, result: &Result<T>) {
        let ended = ended(Site { provider: self.provider, op, key, call }, began, result);
        ended.audit();
        ended.count(&*self.observer);
    }
}

#[async_trait]
impl KmsAdmin for AuditedAdmin {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let began = Instant::now();
        let result = self.inner.create(new, call).await;
        let key = result.as_ref().map_or_else(|_| KeyRef(String::new()), Clone::clone);
        self.report(Op::Create, &key, call, began, &result);
        result
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let began = Instant::now();
        let result = self.inner.rotate(key, call).await;
        self.report(Op::Rotate, key, call, began, &result);
        result
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let began = Instant::now();
        let result = self.inner.set_enabled(key, enabled, call).await;
        let op = if enabled { Op::Enable } else { Op::Disable };
        self.report(op, key, call, began, &result);
        result
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let began = Instant::now();
        let result = self.inner.delete(key, call).await;
        self.report(Op::Delete, key, call, began, &result);
        result
    }

    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let began = Instant::now();
        let result = self.inner.restore(key, call).await;
        self.report(Op::Restore, key, call, began, &result);
        result
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let began = Instant::now();
        let result = self.inner.set_auto_rotation(key, interval, call).await;
        self.report(Op::SetRotationPolicy, key, call, began, &result);
        result
    }
}
