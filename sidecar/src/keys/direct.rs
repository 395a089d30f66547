//! Direct wrapping: the KMS wraps each DEK. Some are wrapped ahead, so that making a file rarely waits.
//!
//! Invariant: a wrapped DEK is used for one file only, the one whose id its context names; what is not used is dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use envelope::{Dek, FileId, KmsContext, VolumeId, WrappedKey};
use kms::CallCtx;

use super::error::KeyError;
use super::groups::is_retired;
use super::root::RootKey;

/// DEKs that are kept ready.
const READY: usize = 16;

/// A new file's identity and key.
#[derive(Debug)]
pub struct NewKey {
    /// The file.
    pub file: FileId,
    /// Its DEK.
    pub dek: Dek,
    /// The DEK, wrapped.
    pub wrapped: WrappedKey,
}

/// DEKs that are wrapped and not used yet.
pub struct Pool {
    volume: VolumeId,
    root: Arc<RootKey>,
    ready: Mutex<VecDeque<NewKey>>,
    making: tokio::sync::Mutex<()>,
}

impl Pool {
    /// An empty pool for `volume`.
    pub fn new(volume: VolumeId, root: Arc<RootKey>) -> Self {
        Self { volume, root, ready: Mutex::default(), making: tokio::sync::Mutex::default() }
    }

    /// A key for a new file; `None` where none is ready. One of another version only while there is none of the current
    /// one: the newest, because a rotation may not have been noticed yet.
    pub fn take(&self, current: Option<&str>) -> Option<NewKey> {
        let mut ready = self.ready();
        if ready.iter().any(|key| is_current(key, current)) {
            ready.retain(|key| is_current(key, current));
            return ready.pop_front();
        }
        ready.pop_back()
    }

    /// Fills the pool and drops what another version than `current` wrapped.
    pub async fn close_others(&self, current: &str) -> Result<(), KeyError> {
        self.prepare(Some(current)).await?;
        self.ready().retain(|key| is_current(key, Some(current)));
        Ok(())
    }

    /// Whether [`Pool::prepare`] has something to do.
    pub fn wants(&self, current: Option<&str>) -> bool {
        self.ready().iter().filter(|key| is_current(key, current)).count() < READY
    }

    /// Fills the pool.
    pub async fn prepare(&self, current: Option<&str>) -> Result<(), KeyError> {
        let _making = self.making.lock().await;
        // Not until it wants no more: after a rotation that nobody noticed yet, every new key looks retired.
        for _ in 0..READY {
            if !self.wants(current) {
                break;
            }
            let key = self.create().await?;
            self.ready().push_back(key);
        }
        Ok(())
    }

    /// Drops every DEK.
    pub fn forget(&self) {
        self.ready().clear();
    }

    /// One key, made now.
    pub async fn create(&self) -> Result<NewKey, KeyError> {
        let (file, dek) = (FileId::generate()?, Dek::generate()?);
        let context = KmsContext::file_dek(self.volume, file);
        let wrapped = self.root.wrap(dek.expose(), &context, &CallCtx::new()).await?;
        Ok(NewKey { file, dek, wrapped })
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<NewKey>> {
        self.ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn is_current(key: &NewKey, current: Option<&str>) -> bool {
    !is_retired(&key.wrapped, current)
}
