//! The trait that every provider and every decorator implements: what a data-plane credential may do, and no more.
//!
//! Invariant: nothing here can rotate, disable, create or delete a root key.

use async_trait::async_trait;

use crate::call::{CallCtx, EncCtx};
use crate::error::Result;
use crate::key::{Caps, KeyInfo, KeyRef, PlainKey, Unwrapped, VersionInfo, Wrapped};

/// A key management service, reached with one credential.
#[async_trait]
pub trait Kms: Send + Sync {
    /// What it can do.
    fn caps(&self) -> &Caps;

    /// The root key's metadata: cheap, needs only the right to read it, and serves as health probe. A disabled or
    /// deleted key may come as `Ok` with its [state](crate::KeyState) or as a refusal.
    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo>;

    /// A new data key and its wrapped form.
    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)>;

    /// Wraps a data key with the current version.
    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped>;

    /// Unwraps a data key. Fails with `CiphertextInvalid` where the blob, the root key or the context is another one.
    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped>;

    /// Wraps the same data key with the current version.
    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped>;

    /// All versions of the root key, the current one first.
    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>>;

    /// Forgets every plaintext key that a decorator keeps.
    fn purge(&self) {}
}
