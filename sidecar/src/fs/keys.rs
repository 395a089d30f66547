//! Where the filesystem gets keys from: the one seam between it and the key store.
//!
//! Invariant: the filesystem holds no lock of its own across a call, so that an implementation may block for as long as
//! a KMS takes; a key that a call returned is the one that the header commits to.

use std::time::Instant;

use envelope::{Dek, FileDek, FileId, HeaderRegion, KeySlot};
use thiserror::Error;

/// Why there is no key. Each kind reaches the application as another errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyFailure {
    /// The root key is refused (disabled, denied, destroyed), or keys are withheld for that reason: `ENOKEY`.
    #[error("use the root key: it is refused")]
    Suspended,
    /// No answer from the KMS for longer than keys may live: `ETIMEDOUT`. Says nothing about the key.
    #[error("reach the kms in time")]
    Unreachable,
    /// The header names no root key or volume that the configuration accepts: `EACCES`.
    #[error("accept the header's root key or volume")]
    NotAccepted,
    /// A key came, and it is not the one that the header commits to, or the header was changed: `EKEYREJECTED`.
    #[error("verify the key against the header")]
    Rejected,
    /// Anything else, such as no random numbers or an unreadable group record: `EIO`.
    #[error("make or find the key")]
    Failed,
}

/// What a file that gets its first byte needs.
#[derive(Debug)]
pub struct NewFile {
    /// The file's identifier.
    pub file: FileId,
    /// Its DEK.
    pub dek: Dek,
    /// The first key slot, which holds the DEK wrapped in the context of `file` and the volume.
    pub slot: KeySlot,
}

/// What is behind a header.
#[derive(Debug)]
pub struct OpenedFile {
    /// The DEK, which the header's preamble accepted.
    pub dek: FileDek,
    /// The successor of the header's current slot, where a retired key version wrapped the DEK: the filesystem writes
    /// it into the inactive slot.
    pub upgrade: Option<KeySlot>,
}

/// The key store of a volume. Calls come from many threads at once and may block.
pub trait FileKeys: Send + Sync {
    /// Whether keys may be used now. Asked before each open, read and write, so it must be quick and never wait.
    fn permit(&self) -> Result<(), KeyFailure>;

    /// A new file's key.
    fn create(&self) -> Result<NewFile, KeyFailure>;

    /// The key behind a header.
    fn open(&self, header: &HeaderRegion) -> Result<OpenedFile, KeyFailure>;

    /// Whether a key that came from [`Self::create`] or [`Self::open`] at `since` must be fetched again before its next use:
    /// because it is older than the store lets keys live without another proof, or because the root key has a new version
    /// to which the header should be upgraded. Quick, never waits. An open file keeps its key until this says `true`, or
    /// until it is suspended. Where fetching it again is [`KeyFailure::Unreachable`] the file goes on with the key that it
    /// has, for as long as [`Self::permit`] says yes, and asks again later.
    fn is_stale(&self, since: Instant) -> bool {
        let _ = since;
        false
    }
}
