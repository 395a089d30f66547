//! No more than a number of calls are under way at once, so that a storm of pods is a queue and not a storm.
//!
//! Invariant: a call that is dropped gives its place back.

use std::future::Future;

use tokio::sync::Semaphore;

use super::{Answer, Policy, Site};
use crate::call::CallCtx;
use crate::error::Result;

/// Waits for a place; the deadline outside bounds the wait.
pub(super) struct Limit {
    places: Semaphore,
}

impl Limit {
    pub(super) fn new(max: usize) -> Self {
        Self { places: Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)) }
    }
}

impl Policy for Limit {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        let _place = self.places.acquire().await.expect("this semaphore is never closed");
        attempt(site.call.clone()).await
    }
}
