//! Each decorator alone over a scripted KMS, then all of them in the order that is used.
#![allow(clippy::unwrap_used, clippy::panic)]

mod breaker;
mod cache;
mod flight;
mod order;
mod report;
mod timing;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::call::{CallCtx, EncCtx, Op};
use crate::error::{ErrorKind, KmsError, Outage, Result};
use crate::key::{
    Caps, ContextScheme, KeyInfo, KeyRef, KeyState, KeyVersion, Origin, PlainKey, Unwrapped, VersionInfo,
    Wrapped,
};
use crate::observe::{Attempt, BreakerState, CacheEvent, Observer};
use crate::service::Kms;

pub(super) const CTX: EncCtx = [7; 32];

pub(super) const DOWN: ErrorKind = ErrorKind::Unavailable { why: Outage::Unreachable, retry_after: None };
pub(super) const DENIED: ErrorKind = ErrorKind::Denied { confirmed: false };

pub(super) fn key() -> KeyRef {
    KeyRef("root".into())
}

pub(super) fn blob(text: &str) -> Wrapped {
    Wrapped { blob: text.into(), version: Some(KeyVersion("v1".into())), scheme: ContextScheme::Aad }
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the scripted KMS does with one call.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Answer,
    Fail(ErrorKind),
    /// Answers late.
    Late(Duration),
    /// Fails late.
    FailLate(Duration, ErrorKind),
    /// Never answers.
    Hang,
    /// Describes this state.
    State(KeyState),
}

/// A KMS that follows a script, then repeats its last step. Unwraps any blob to a key made of its first byte.
pub(super) struct Scripted {
    caps: Caps,
    script: Mutex<VecDeque<Step>>,
    calls: Mutex<Vec<(Op, CallCtx, Instant)>>,
    under_way: AtomicUsize,
    pub(super) most_under_way: AtomicUsize,
}

impl Scripted {
    pub(super) fn new(script: impl IntoIterator<Item = Step>) -> Arc<Self> {
        let caps = Caps {
            provider: "scripted",
            scheme: ContextScheme::Aad,
            native_generate: true,
            native_rewrap: true,
            rewrap_on_unwrap: true,
            version_in_reply: true,
            list_versions: true,
            per_version_state: false,
            min_rotate_interval: None,
        };
        Arc::new(Self {
            caps,
            script: Mutex::new(script.into_iter().collect()),
            calls: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        })
    }

    pub(super) fn push(&self, step: Step) {
        let mut script = self.script.lock().unwrap();
        script.clear();
        script.push_back(step);
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub(super) fn times(&self) -> Vec<Instant> {
        self.calls.lock().unwrap().iter().map(|(_, _, at)| *at).collect()
    }

    pub(super) fn last_call(&self) -> CallCtx {
        self.calls.lock().unwrap().last().unwrap().1.clone()
    }

    async fn step(&self, op: Op, key: &KeyRef, call: &CallCtx) -> Result<Step> {
        self.calls.lock().unwrap().push((op, call.clone(), Instant::now()));
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        let _leave = Leave(&self.under_way);
        let step = {
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        };
        let failed = |kind| {
            let mut error = KmsError::new(kind, "scripted", op);
            error.context.key = Some(key.clone());
            error.context.http_status = Some(409);
            error.context.code = Some("A_CODE".into());
            Err(error)
        };
        match step.unwrap_or(Step::Answer) {
            Step::Fail(kind) => failed(kind),
            Step::FailLate(wait, kind) => {
                tokio::time::sleep(wait).await;
                failed(kind)
            }
            Step::Late(wait) => {
                tokio::time::sleep(wait).await;
                Ok(Step::Answer)
            }
            Step::Hang => std::future::pending().await,
            step => Ok(step),
        }
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Kms for Scripted {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let step = self.step(Op::Describe, key, call).await?;
        let state = if let Step::State(state) = step { state } else { KeyState::Enabled };
        Ok(KeyInfo {
            id: key.clone(),
            state,
            current: Some(KeyVersion("v2".into())),
            rotated_at: None,
            expires_at: None,
            origin: Origin::Generated,
            auto_rotation: None,
        })
    }

    async fn generate(&self, key: &KeyRef, _: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        self.step(Op::Generate, key, call).await?;
        Ok((PlainKey::from_bytes(&[9; 32]), blob("generated")))
    }

    async fn wrap(&self, key: &KeyRef, _: &PlainKey, _: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        self.step(Op::Wrap, key, call).await?;
        Ok(blob("wrapped"))
    }

    async fn unwrap(&self, key: &KeyRef, wrapped: &Wrapped, _: &EncCtx, call: &CallCtx) -> Result<Unwrapped> {
        let asked_at = Instant::now();
        self.step(Op::Unwrap, key, call).await?;
        Ok(Unwrapped {
            key: PlainKey::from_bytes(&[wrapped.blob[0]; 32]),
            used: wrapped.version.clone(),
            rewrapped: Some(Wrapped { version: Some(KeyVersion("v2".into())), ..wrapped.clone() }),
            asked_at,
        })
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, _: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        self.step(Op::Rewrap, key, call).await?;
        Ok(Wrapped { version: Some(KeyVersion("v2".into())), ..wrapped.clone() })
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        self.step(Op::Versions, key, call).await?;
        Ok(Vec::new())
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) attempts: Mutex<Vec<Attempt>>,
    pub(super) retries: AtomicUsize,
    pub(super) cache: Mutex<Vec<CacheEvent>>,
    pub(super) breaker: Mutex<Vec<BreakerState>>,
}

impl Observer for Recorder {
    fn attempt(&self, attempt: &Attempt) {
        self.attempts.lock().unwrap().push(*attempt);
    }
    fn retry(&self, _: Op) {
        self.retries.fetch_add(1, Ordering::SeqCst);
    }
    fn cache(&self, event: CacheEvent) {
        self.cache.lock().unwrap().push(event);
    }
    fn breaker(&self, state: BreakerState) {
        self.breaker.lock().unwrap().push(state);
    }
}

pub(super) fn unobserved() -> Arc<dyn Observer> {
    Arc::new(crate::observe::Unobserved)
}
