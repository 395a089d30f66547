//! Unwrapped keys are kept for a while.
//!
//! Invariant: an entry is never older than its TTL, counted from when the KMS was asked;
//! a configured grace extends that only while the KMS gives no answer. Any refusal, whichever operation brings it,
//! drops every entry at once, and an answer that was under way then is not kept. What ends is zeroized when it ends,
//! not when somebody looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::flight::identity;
use crate::call::{CallCtx, EncCtx};
use crate::connect::Options;
use crate::error::{ErrorKind, KmsError, Result};
use crate::key::{Caps, KeyInfo, KeyRef, PlainKey, Unwrapped, VersionInfo, Wrapped};
use crate::observe::{CacheEvent, Observer};
use crate::service::Kms;

/// A cache of unwrapped keys.
pub(super) struct Cache {
    inner: Arc<dyn Kms>,
    ttl: Duration,
    grace: Duration,
    capacity: usize,
    shared: Arc<Mutex<Entries>>,
    observer: Arc<dyn Observer>,
}

#[derive(Default)]
struct Entries {
    by_identity: HashMap<[u8; 32], Unwrapped>,
    /// Counts purges.
    epoch: u64,
    /// A task waits for the first entry to end.
    ending: bool,
}

impl Cache {
    pub(super) fn new(inner: Arc<dyn Kms>, options: &Options) -> Self {
        Self {
            inner,
            ttl: options.cache_ttl,
            grace: options.outage_grace,
            capacity: options.cache_entries,
            shared: Arc::default(),
            observer: Arc::clone(&options.observer),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.shared.lock().expect("no holder of this lock panics")
    }

    /// Keys that are kept now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries().by_identity.len()
    }

    fn lookup(&self, id: &[u8; 32], max_age: Duration) -> Option<Unwrapped> {
        let entries = self.entries();
        let unwrapped = entries.by_identity.get(id)?;
        (unwrapped.asked_at.elapsed() < max_age).then(|| unwrapped.duplicate())
    }

    fn keep(&self, id: [u8; 32], unwrapped: &Unwrapped, epoch: u64) {
        if self.ttl.is_zero() || self.capacity == 0 {
            return;
        }
        let mut entries = self.entries();
        if entries.epoch != epoch {
            return;
        }
        if entries.by_identity.len() >= self.capacity && !entries.by_identity.contains_key(&id) {
            entries.drop_oldest();
        }
        entries.by_identity.insert(id, unwrapped.duplicate());
        if !entries.ending {
            entries.ending = true;
            tokio::spawn(end_entries(Arc::downgrade(&self.shared), self.ttl + self.grace));
        }
    }

    /// A refusal empties the cache.
    fn judge<T>(&self, result: &Result<T>) {
        if result.as_ref().is_err_and(KmsError::is_refusal) {
            self.purge();
        }
    }
}

impl Entries {
    fn drop_oldest(&mut self) {
        let oldest = self.by_identity.iter().min_by_key(|(_, entry)| entry.asked_at).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_identity.remove(&id);
        }
    }
}

/// Drops entries when their time is over; ends with the last one, or with the cache.
async fn end_entries(entries: Weak<Mutex<Entries>>, life: Duration) {
    loop {
        let next = {
            let Some(entries) = entries.upgrade() else { return };
            let mut entries = entries.lock().expect("no holder of this lock panics");
            entries.by_identity.retain(|_, entry| entry.asked_at.elapsed() < life);
            let Some(oldest) = entries.by_identity.values().map(|entry| entry.asked_at).min() else {
                entries.ending = false;
                return;
            };
            oldest + life
        };
        tokio::time::sleep_until(next).await;
    }
}

#[async_trait]
impl Kms for Cache {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let result = self.inner.describe(key, call).await;
        self.judge(&result);
        if result.as_ref().is_ok_and(|info| !info.state.unwraps()) {
            self.purge();
        }
        result
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let result = self.inner.generate(key, ctx, call).await;
        self.judge(&result);
        result
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let result = self.inner.wrap(key, plain, ctx, call).await;
        self.judge(&result);
        result
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let id = identity(key, wrapped, ctx);
        if !call.fresh
            && let Some(unwrapped) = self.lookup(&id, self.ttl)
        {
            self.observer.cache(CacheEvent::Hit);
            return Ok(unwrapped);
        }
        self.observer.cache(CacheEvent::Miss);
        let epoch = self.entries().epoch;
        let result = self.inner.unwrap(key, wrapped, ctx, call).await;
        match &result {
            Ok(unwrapped) => self.keep(id, unwrapped, epoch),
            Err(error) if error.kind == ErrorKind::CiphertextInvalid => {
                self.entries().by_identity.remove(&id);
            }
            Err(error) if error.is_outage() && !call.fresh => {
                if let Some(unwrapped) = self.lookup(&id, self.ttl + self.grace) {
                    self.observer.cache(CacheEvent::Grace);
                    return Ok(unwrapped);
                }
            }
            Err(_) => self.judge(&result),
        }
        result
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let result = self.inner.rewrap(key, wrapped, ctx, call).await;
        self.judge(&result);
        result
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let result = self.inner.versions(key, call).await;
        self.judge(&result);
        result
    }

    fn purge(&self) {
        let mut entries = self.entries();
        entries.epoch += 1;
        if !entries.by_identity.is_empty() {
            entries.by_identity.clear();
            drop(entries);
            self.observer.cache(CacheEvent::Purge);
        }
        self.inner.purge();
    }
}
