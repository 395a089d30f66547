//! A denial is believed when it is said twice.
//!
//! Identity services flap: a policy that is being replaced denies for a moment. Invariant: a denial counts as a
//! refusal only if another one for the same operation and key came at least the window earlier, with no success in
//! between.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Policy, Site};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::key::KeyRef;

/// Asks again, the window later, where the deadline allows; otherwise the next call confirms.
pub(super) struct Denial {
    window: Duration,
    first: Mutex<HashMap<(Op, KeyRef), Instant>>,
}

impl Denial {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, first: Mutex::new(HashMap::new()) }
    }

    /// When the first of the denials was; this one, if there is none yet.
    fn first_denial(&self, site: &Site<'_>) -> Instant {
        let mut first = self.first.lock().expect("no holder of this lock panics");
        *first.entry((site.op, site.key.clone())).or_insert_with(Instant::now)
    }

    fn allowed(&self, site: &Site<'_>) {
        let mut first = self.first.lock().expect("no holder of this lock panics");
        if !first.is_empty() {
            first.remove(&(site.op, site.key.clone()));
        }
    }

    /// Notes success or denial; a denial that is old enough news becomes confirmed.
    fn note<T>(&self, site: &Site<'_>, result: Result<T>) -> Result<T> {
        match result {
            Ok(answer) => {
                self.allowed(site);
                Ok(answer)
            }
            Err(mut error) if is_denial(&error) => {
                let confirmed = self.first_denial(site).elapsed() >= self.window;
                error.kind = ErrorKind::Denied { confirmed };
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

fn is_denial(error: &KmsError) -> bool {
    matches!(error.kind, ErrorKind::Denied { .. })
}

impl Policy for Denial {
    async fn run<T, F, Fut>(&self, site: Site<'_>, attempt: F) -> Result<T>
    where
        T: Answer,
        F: Fn(CallCtx) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T>> + Send,
    {
        let result = self.note(&site, attempt(site.call.clone()).await);
        if !matches!(&result, Err(error) if error.kind == ErrorKind::Denied { confirmed: false }) {
            return result;
        }
        let ask_at = self.first_denial(&site) + self.window;
        if site.call.deadline.is_some_and(|deadline| deadline <= ask_at) {
            return result;
        }
        tokio::time::sleep_until(ask_at).await;
        self.note(&site, attempt(site.call.clone()).await)
    }
}
