//! What is told of damage: a counter, and a record in the audit stream.
//!
//! Invariant: a record names the volume, the inode and the block, never a name, a path or data; a read that failed for damage
//! has left one, and nothing else has.

use envelope::CipherError;
use kms::observe::AUDIT_TARGET;

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
            tracing::warn!(
                target: AUDIT_TARGET,
                volume = %self.options.volume,
                inode = inode.identity.ino,
                block = block(error),
                outcome = outcome(error),
                %error,
                "integrity error"
            );
        }
        result
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
