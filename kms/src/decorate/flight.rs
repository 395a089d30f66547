//! Those who ask the same at the same time share one call.
//!
//! Invariant: "the same" means root key, blob, scheme and context. Whoever makes the call may be dropped: the next
//! in line makes it then. Nobody is given a failure that only the shorter patience of another one caused.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::call::{CallCtx, EncCtx};
use crate::error::{KmsError, Result};
use crate::key::{Caps, KeyInfo, KeyRef, PlainKey, Unwrapped, VersionInfo, Wrapped};
use crate::service::Kms;

/// What a wrapped key, its context and its root key are known by: SHA-256 of all of them, each with its length.
pub(super) fn identity(key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [key.0.as_bytes(), &[wrapped.scheme as u8], ctx, &wrapped.blob] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Shares calls of unwrap, rewrap and describe.
pub(super) struct SingleFlight {
    inner: Arc<dyn Kms>,
    unwraps: Flights<[u8; 32], Unwrapped>,
    rewraps: Flights<[u8; 32], Wrapped>,
    describes: Flights<KeyRef, KeyInfo>,
}

impl SingleFlight {
    pub(super) fn new(inner: Arc<dyn Kms>) -> Self {
        Self { inner, unwraps: Flights::new(), rewraps: Flights::new(), describes: Flights::new() }
    }
}

#[cfg(test)]
impl SingleFlight {
    /// Calls that are listed as under way.
    pub(super) fn under_way(&self) -> usize {
        let unwraps = self.unwraps.under_way.lock().expect("no holder of this lock panics").len();
        let rewraps = self.rewraps.under_way.lock().expect("no holder of this lock panics").len();
        let describes = self.describes.under_way.lock().expect("no holder of this lock panics").len();
        unwraps + rewraps + describes
    }
}

struct Landed<T> {
    deadline: Option<Instant>,
    result: std::result::Result<T, KmsError>,
}

type Cell<T> = Arc<OnceCell<Landed<T>>>;

struct Flights<K, T> {
    under_way: Mutex<HashMap<K, Cell<T>>>,
}

impl<K: Clone + Eq + std::hash::Hash, T> Flights<K, T> {
    fn new() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }

    /// Joins the flight of `key` or starts it, and hands out what `copy` makes of its answer.
    async fn fly<Fut: Future<Output = Result<T>> + Send>(
        &self,
        key: K,
        call: &CallCtx,
        start: impl Fn() -> Fut,
        copy: impl Fn(&T) -> T,
    ) -> Result<T> {
        loop {
            let seat = Seat { flights: self, cell: self.join(&key), key: key.clone() };
            let mut led = false;
            let landed = seat
                .cell
                .get_or_init(|| {
                    led = true;
                    async { Landed { deadline: call.deadline, result: start().await } }
                })
                .await;
            match &landed.result {
                Ok(answer) => return Ok(copy(answer)),
                Err(error) if !led && error.is_outage() && later(call.deadline, landed.deadline) => {}
                Err(error) => return Err(error.clone()),
            }
        }
    }

    fn join(&self, key: &K) -> Cell<T> {
        let mut under_way = self.under_way.lock().expect("no holder of this lock panics");
        let cell = under_way.entry(key.clone()).or_default();
        if cell.initialized() {
            *cell = Cell::default();
        }
        Arc::clone(cell)
    }
}

fn later(mine: Option<Instant>, theirs: Option<Instant>) -> bool {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine > theirs,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

/// A place in a flight; the last one to leave, or the first after landing, takes the flight off the list.
struct Seat<'a, K: Eq + std::hash::Hash, T> {
    flights: &'a Flights<K, T>,
    cell: Cell<T>,
    key: K,
}

impl<K: Eq + std::hash::Hash, T> Drop for Seat<'_, K, T> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock().expect("no holder of this lock panics");
        let listed = under_way.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The list and this seat hold it: nobody else waits.
        if listed && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            under_way.remove(&self.key);
        }
    }
}

#[async_trait]
impl Kms for SingleFlight {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let start = || self.inner.describe(key, call);
        self.describes.fly(key.clone(), call, start, Clone::clone).await
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        self.inner.generate(key, ctx, call).await
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        self.inner.wrap(key, plain, ctx, call).await
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let start = || self.inner.unwrap(key, wrapped, ctx, call);
        self.unwraps.fly(identity(key, wrapped, ctx), call, start, Unwrapped::duplicate).await
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let start = || self.inner.rewrap(key, wrapped, ctx, call);
        self.rewraps.fly(identity(key, wrapped, ctx), call, start, Clone::clone).await
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        self.inner.versions(key, call).await
    }

    fn purge(&self) {
        self.inner.purge();
    }
}
