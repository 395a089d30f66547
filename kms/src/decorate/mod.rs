//! What every provider needs and none should bring: each concern is one decorator over `dyn Kms`.
//!
//! From the caller to the provider: cache, deadline, single-flight, denial, retry, breaker, limit, audit, metrics.
//! The order is part of the meaning: what is retried was not cached, what waits for a permit has a deadline, what is
//! audited is an exchange and not a hit. Invariant: a decorator changes when and how often a call is made, never
//! what it says.

mod breaker;
mod cache;
mod deadline;
mod denial;
mod flight;
mod limit;
mod report;
mod retry;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::admin::Permission;
use crate::call::{CallCtx, EncCtx, Op};
use crate::connect::Options;
use crate::error::Result;
use crate::key::{Caps, KeyInfo, KeyRef, KeyVersion, PlainKey, Unwrapped, VersionInfo, Wrapped};
use crate::service::Kms;

pub(crate) use report::AuditedAdmin;

/// Puts all decorators around a provider.
pub(crate) fn decorate(provider: Arc<dyn Kms>, options: &Options) -> Arc<dyn Kms> {
    let observer = &options.observer;
    let kms = layer(provider, report::Metrics::new(observer));
    let kms = layer(kms, report::Audit::new(&options.auditor));
    let kms = layer(kms, limit::Limit::new(options.max_concurrency));
    let kms = layer(kms, breaker::Breaker::new(options.breaker.clone(), observer));
    let kms = layer(kms, retry::Retry::new(options.retry.clone(), observer));
    let kms = layer(kms, denial::Denial::new(options.denial_window));
    let kms = Arc::new(flight::SingleFlight::new(kms));
    let kms = layer(kms, deadline::Deadline::new(options.default_deadline));
    Arc::new(cache::Cache::new(kms, options))
}

/// Puts one decorator around a KMS.
pub(crate) fn layer<P: Policy>(inner: Arc<dyn Kms>, policy: P) -> Arc<dyn Kms> {
    Arc::new(Layer { inner, policy })
}

/// One call that passes through a decorator.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) provider: &'static str,
    pub(crate) op: Op,
    pub(crate) key: &'a KeyRef,
    pub(crate) call: &'a CallCtx,
}

/// A concern that is the same for all operations.
pub(crate) trait Policy: Send + Sync + 'static {
    /// Makes the attempt, as often and whenever it sees fit, with the given or another call context.
    fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send;
}

/// What an answer tells about the key and its versions, for the audit stream.
pub(crate) trait Answer: Send {
    /// Whether the KMS was asked for it at all.
    fn asked(&self) -> bool {
        true
    }
    fn created(&self) -> Option<&KeyRef> {
        None
    }
    fn version(&self) -> Option<&KeyVersion> {
        None
    }
    fn rewrapped(&self) -> Option<&KeyVersion> {
        None
    }
}

impl Answer for () {}
impl Answer for Vec<VersionInfo> {}

impl Answer for Permission {
    fn asked(&self) -> bool {
        *self != Self::NotAsked
    }
}

impl Answer for KeyRef {
    fn created(&self) -> Option<&KeyRef> {
        Some(self)
    }
}

impl Answer for KeyInfo {
    fn version(&self) -> Option<&KeyVersion> {
        self.current.as_ref()
    }
}

impl Answer for Wrapped {
    fn version(&self) -> Option<&KeyVersion> {
        self.version.as_ref()
    }
}

impl Answer for (PlainKey, Wrapped) {
    fn version(&self) -> Option<&KeyVersion> {
        self.1.version.as_ref()
    }
}

impl Answer for Unwrapped {
    fn version(&self) -> Option<&KeyVersion> {
        self.used.as_ref()
    }
    fn rewrapped(&self) -> Option<&KeyVersion> {
        self.rewrapped.as_ref()?.version.as_ref()
    }
}

/// A KMS with one policy around every operation.
struct Layer<P> {
    inner: Arc<dyn Kms>,
    policy: P,
}

impl<P> Layer<P> {
    fn site<'a>(&self, op: Op, key: &'a KeyRef, call: &'a CallCtx) -> Site<'a> {
        Site { provider: self.inner.caps().provider, op, key, call }
    }
}

#[async_trait]
impl<P: Policy> Kms for Layer<P> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let inner = &self.inner;
        let attempt = move |call: CallCtx| async move { inner.describe(key, &call).await };
        self.policy.run(self.site(Op::Describe, key, call), attempt).await
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let inner = &self.inner;
        let attempt = move |call: CallCtx| async move { inner.generate(key, ctx, &call).await };
        self.policy.run(self.site(Op::Generate, key, call), attempt).await
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let inner = &self.inner;
        let attempt = move |call: CallCtx| async move { inner.wrap(key, plain, ctx, &call).await };
        self.policy.run(self.site(Op::Wrap, key, call), attempt).await
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let inner = &self.inner;
        let attempt = move |call: CallCtx| async move { inner.unwrap(key, wrapped, ctx, &call).await };
        self.policy.run(self.site(Op::Unwrap, key, call), attempt).await
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let inner = &self.inner;
        let attempt = move |call: CallCtx| async move { inner.rewrap(key, wrapped, ctx, &call).await };
        self.policy.run(self.site(Op::Rewrap, key, call), attempt).await
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let inner = &self.inner;
        let attempt = move |call: CallCtx| async move { inner.versions(key, &call).await };
        self.policy.run(self.site(Op::Versions, key, call), attempt).await
    }

    fn purge(&self) {
        self.inner.purge();
    }
}

#[cfg(test)]
pub(crate) mod testlog;
#[cfg(test)]
mod tests;
