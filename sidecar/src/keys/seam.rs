//! The key store as the filesystem sees it.
//!
//! Invariant: called from threads that serve requests, never from the runtime that talks to the KMS.

use std::sync::Arc;
use std::time::Instant;

use envelope::{HeaderError, HeaderRegion, KeySlot};
use tokio::runtime::Handle;

use super::error::KeyError;
use super::volume_keys::VolumeKeys;
use crate::fs::{FileKeys, KeyFailure, NewFile, OpenedFile};

/// A [`VolumeKeys`] whose calls block.
pub struct BlockingKeys {
    keys: Arc<VolumeKeys>,
    handle: Handle,
}

impl BlockingKeys {
    /// `handle` runs the calls to the KMS.
    pub fn new(keys: Arc<VolumeKeys>, handle: Handle) -> Self {
        Self { keys, handle }
    }
}

impl FileKeys for BlockingKeys {
    fn permit(&self) -> Result<(), KeyFailure> {
        self.keys.watch().check().map_err(|error| failure(&error))
    }

    fn create(&self) -> Result<NewFile, KeyFailure> {
        let made = match self.keys.create_now() {
            Ok(Some(key)) => Ok(key),
            Ok(None) => self.handle.block_on(self.keys.create()),
            Err(error) => Err(error),
        };
        let key = made.map_err(|error| failure(&error))?;
        let slot = KeySlot::first(vec![key.wrapped], true).map_err(|error| failure(&error.into()))?;
        Ok(NewFile { file: key.file, dek: key.dek, slot })
    }

    fn open(&self, header: &HeaderRegion) -> Result<OpenedFile, KeyFailure> {
        let opened = self.handle.block_on(self.keys.open(header)).map_err(|error| failure(&error))?;
        Ok(OpenedFile { dek: opened.dek, upgrade: opened.upgrade })
    }

    fn is_stale(&self, since: Instant) -> bool {
        self.keys.watch().renewed().is_some_and(|renewed| since <= renewed)
    }
}

/// What an error means for whoever opens a file.
fn failure(error: &KeyError) -> KeyFailure {
    let failure = match error {
        _ if error.is_refusal() => KeyFailure::Suspended,
        _ if error.is_outage() => KeyFailure::Unreachable,
        KeyError::NotOurs | KeyError::Origin(_) => KeyFailure::NotAccepted,
        KeyError::Header(HeaderError::WrongKey | HeaderError::Forged)
        | KeyError::Local(_)
        | KeyError::Kms(_) => KeyFailure::Rejected,
        _ => KeyFailure::Failed,
    };
    tracing::debug!(reason = error.reason(), ?failure, "no key");
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms::{ErrorKind, KmsError, Op, Outage};

    fn kms(kind: ErrorKind) -> KeyError {
        KeyError::Kms(KmsError::new(kind, "keyProtect", Op::Unwrap))
    }

    #[test]
    fn an_outage_a_refusal_and_a_wrong_key_are_three_things_for_the_application() {
        let outage = ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None };
        assert_eq!(failure(&kms(outage)), KeyFailure::Unreachable);
        assert_eq!(failure(&kms(ErrorKind::Denied { confirmed: false })), KeyFailure::Unreachable);
        assert_eq!(failure(&kms(ErrorKind::Denied { confirmed: true })), KeyFailure::Suspended);
        assert_eq!(failure(&kms(ErrorKind::KeyDisabled)), KeyFailure::Suspended);
        assert_eq!(failure(&kms(ErrorKind::CiphertextInvalid)), KeyFailure::Rejected);
        assert_eq!(failure(&KeyError::Header(HeaderError::WrongKey)), KeyFailure::Rejected);
        assert_eq!(failure(&KeyError::NotOurs), KeyFailure::NotAccepted);
    }
}
