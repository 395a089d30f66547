//! What is told of damage: a counter, and a record in the audit stream.
//!
//! Invariant: a record names the volume, the inode and the block, never a name, a path or data; a read that failed for damage
//! has left one, and nothing else has.

use std::sync::Arc;

use contract::audit::{Event, Subject};
use envelope::{CipherError, VolumeId};
use kms::observe::{Auditor, Logged};

use super::error::FsError;
use super::inode::Inode;
use super::keys::KeyFailure;
use super::{Counters, EncryptedFs};

impl EncryptedFs {
    /// Counts and records what a person should hear of.
    pub(super) fn counted<T>(&self, inode: &Inode, result: Result<T, FsError>) -> Result<T, FsError> {
        if let Err(error) = &result
            && error.is_damage()
        {
            Counters::add(&self.counters.damaged, 1);
            let (inode, block) = (Some(inode.identity.ino), block(error));
            let volume = Some(self.options.volume.to_string());
            tracing::warn!(?volume, ?inode, ?block, %error, "integrity error");
            let subject = Subject { volume, inode, block, ..Subject::default() };
            self.auditor().record(Event::new("damage", outcome(error), subject));
        }
        result
    }

    /// Records go to `auditor` from now on, if they went to nobody.
    pub fn audit_by(&self, auditor: Arc<dyn Auditor>) {
        let _ = self.auditor.set(auditor);
    }

    /// Who keeps the audit trail.
    pub fn auditor(&self) -> &dyn Auditor {
        self.auditor.get().map_or(&Logged, |auditor| auditor.as_ref())
    }

    /// The volume that is served.
    pub fn volume(&self) -> VolumeId {
        self.options.volume
    }
}

/// The block that is damaged, if it is one.
fn block(error: &FsError) -> Option<u64> {
    match error {
        FsError::Block(CipherError::Block { index, .. }) | FsError::Zeroed(index) => Some(*index),
        _ => None,
    }
}

/// A fixed word for each kind of damage.
fn outcome(error: &FsError) -> &'static str {
    match error {
        FsError::Zeroed(_) => "Zeroed",
        FsError::Block(_) => "Block",
        FsError::Seal(_) => "Seal",
        FsError::Size { .. } => "Size",
        FsError::Key(KeyFailure::Rejected) => "KeyRejected",
        _ => "Header",
    }
}
