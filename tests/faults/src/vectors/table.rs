//! A KMS that knows nothing but its answers, so that a committed volume needs no KMS of its time. Invariant: a blob opens only
//! in the context in which it was wrapped.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms::{
    CallCtx, Caps, ContextScheme, EncCtx, ErrorKind, KeyInfo, KeyRef, KeyState, KeyVersion, Kms, KmsError,
    Op, Origin, PlainKey, Unwrapped, VersionInfo, Wrapped,
};
use serde::{Deserialize, Serialize};

/// One wrapped key. Byte strings are hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// What was given to the program.
    pub blob: String,
    /// The context.
    pub context: String,
    /// The version that wrapped it.
    pub version: String,
    /// The key. A sample.
    pub key: String,
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    caps: Caps,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    versions: Vec<String>,
    answers: Vec<Answer>,
}

impl Table {
    /// With these versions, the current one last, and answers.
    pub fn new(versions: Vec<String>, answers: Vec<Answer>) -> Self {
        let caps = Caps {
            provider: "table",
            scheme: ContextScheme::Aad,
            native_generate: false,
            native_rewrap: true,
            rewrap_on_unwrap: true,
            version_in_reply: true,
            list_versions: true,
            per_version_state: false,
            min_rotate_interval: None,
        };
        Self { caps, state: Mutex::new(State { versions, answers }) }
    }

    /// A new current version.
    pub fn rotate(&self, version: &str) {
        self.state().versions.push(version.to_owned());
    }

    /// Everything that it can answer.
    pub fn answers(&self) -> Vec<Answer> {
        self.state().answers.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> String {
        self.state().versions.last().cloned().unwrap_or_default()
    }

    fn keep(&self, key: &[u8], context: &EncCtx, op: Op) -> kms::Result<Wrapped> {
        let mut blob = PlainKey::random().map_err(|_| refused(op))?.expose().to_vec();
        blob.extend_from_slice(b"a blob of the vectors");
        let version = self.current();
        let answer =
            Answer { blob: hex(&blob), context: hex(context), version: version.clone(), key: hex(key) };
        self.state().answers.push(answer);
        Ok(Wrapped { blob, version: Some(KeyVersion(version)), scheme: ContextScheme::Aad })
    }

    fn find(&self, wrapped: &Wrapped, context: &EncCtx, op: Op) -> kms::Result<(PlainKey, String)> {
        let (blob, context) = (hex(&wrapped.blob), hex(context));
        let state = self.state();
        let answer = state.answers.iter().find(|answer| answer.blob == blob && answer.context == context);
        let answer = answer.ok_or_else(|| refused(op))?;
        let key = unhex(&answer.key).and_then(|key| PlainKey::from_slice(&key));
        Ok((key.ok_or_else(|| refused(op))?, answer.version.clone()))
    }
}

fn refused(op: Op) -> KmsError {
    KmsError::new(ErrorKind::CiphertextInvalid, "table", op)
}

#[async_trait]
impl Kms for Table {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, _: &CallCtx) -> kms::Result<KeyInfo> {
        Ok(KeyInfo {
            id: key.clone(),
            state: KeyState::Enabled,
            current: Some(KeyVersion(self.current())),
            rotated_at: None,
            expires_at: None,
            origin: Origin::Generated,
            auto_rotation: None,
        })
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> kms::Result<(PlainKey, Wrapped)> {
        let plain = PlainKey::random().map_err(|_| refused(Op::Wrap))?;
        let wrapped = self.wrap(key, &plain, ctx, call).await?;
        Ok((plain, wrapped))
    }

    async fn wrap(&self, _: &KeyRef, plain: &PlainKey, ctx: &EncCtx, _: &CallCtx) -> kms::Result<Wrapped> {
        self.keep(plain.expose(), ctx, Op::Wrap)
    }

    async fn unwrap(
        &self,
        _: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        _: &CallCtx,
    ) -> kms::Result<Unwrapped> {
        let (key, version) = self.find(wrapped, ctx, Op::Unwrap)?;
        let old = version != self.current();
        let rewrapped = if old { Some(self.keep(key.expose(), ctx, Op::Unwrap)?) } else { None };
        let asked_at = tokio::time::Instant::now();
        Ok(Unwrapped { key, used: Some(KeyVersion(version)), rewrapped, asked_at })
    }

    async fn rewrap(&self, _: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, _: &CallCtx) -> kms::Result<Wrapped> {
        let (key, _) = self.find(wrapped, ctx, Op::Rewrap)?;
        self.keep(key.expose(), ctx, Op::Rewrap)
    }

    async fn versions(&self, _: &KeyRef, _: &CallCtx) -> kms::Result<Vec<VersionInfo>> {
        let version = |id: &String| VersionInfo { version: KeyVersion(id.clone()), created_at: None };
        Ok(self.state().versions.iter().rev().map(version).collect())
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The other way round.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}
