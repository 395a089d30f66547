//! The key of an open file, fetched once for all who need it at the same time.
//!
//! Invariant: no lock is held while the key store is asked; a key that was on its way when keys were dropped is used by
//! nobody who asks later.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use envelope::{BlockCipher, Geometry};

use super::error::FsError;

/// A file's key, ready to seal and open blocks.
pub struct FileKey {
    /// Seals and opens.
    pub cipher: BlockCipher,
    /// The file's geometry.
    pub geometry: Geometry,
    /// When the key store was asked for it.
    pub since: Instant,
    /// The file has no feature that forbids this program to write.
    pub may_write: bool,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    /// Somebody fetches it; the one before, if there was one, serves writeback until then.
    Busy(Option<Arc<FileKey>>),
    Ready(Arc<FileKey>),
}

#[derive(Default)]
struct State {
    slot: Slot,
    /// Counts fetches.
    attempt: u64,
    /// The fetch that failed last, and why.
    failed: Option<(u64, FsError)>,
    /// Counts drops of keys.
    epoch: u64,
}

/// See the module.
#[derive(Default)]
pub struct KeyCell {
    state: Mutex<State>,
    changed: Condvar,
}

impl KeyCell {
    /// The key, if it is there and `is_good`; else what `fetch` gets. `None` from `fetch` means that the file has no key
    /// yet, and is not remembered. Of those who come while one fetches, all get what it gets; a failure too.
    pub fn get(
        &self,
        is_good: impl Fn(&FileKey) -> bool,
        fetch: impl FnOnce() -> Result<Option<FileKey>, FsError>,
    ) -> Result<Option<Arc<FileKey>>, FsError> {
        let mut state = self.state();
        loop {
            match &state.slot {
                Slot::Ready(key) if is_good(key) => return Ok(Some(Arc::clone(key))),
                Slot::Busy(_) => {
                    let awaited = state.attempt;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    if let Some((attempt, error)) = state.failed
                        && attempt == awaited
                    {
                        return Err(error);
                    }
                }
                Slot::Ready(_) | Slot::Empty => break,
            }
        }
        let before = match std::mem::take(&mut state.slot) {
            Slot::Ready(key) => Some(key),
            Slot::Empty | Slot::Busy(_) => None,
        };
        state.slot = Slot::Busy(before);
        state.attempt += 1;
        let (attempt, epoch) = (state.attempt, state.epoch);
        drop(state);
        let guard = Fetching { cell: self, attempt };
        let result = fetch();
        guard.done(epoch, result)
    }

    /// The key that is there now, fresh or not.
    pub fn present(&self) -> Option<Arc<FileKey>> {
        match &self.state().slot {
            Slot::Ready(key) | Slot::Busy(Some(key)) => Some(Arc::clone(key)),
            Slot::Empty | Slot::Busy(None) => None,
        }
    }

    /// Drops the key, and the one that is on its way.
    pub fn drop_key(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.slot = match state.slot {
            Slot::Busy(_) => Slot::Busy(None),
            Slot::Empty | Slot::Ready(_) => Slot::Empty,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody fetches; ends the wait of the others however that ends.
struct Fetching<'a> {
    cell: &'a KeyCell,
    attempt: u64,
}

impl Fetching<'_> {
    fn done(
        self,
        epoch: u64,
        result: Result<Option<FileKey>, FsError>,
    ) -> Result<Option<Arc<FileKey>>, FsError> {
        let mut state = self.cell.state();
        let result = result.map(|key| key.map(Arc::new));
        match &result {
            Ok(Some(key)) if state.epoch == epoch => state.slot = Slot::Ready(Arc::clone(key)),
            Ok(_) => state.slot = Slot::Empty,
            Err(error) => {
                state.slot = Slot::Empty;
                state.failed = Some((self.attempt, *error));
            }
        }
        drop(state);
        result
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let mut state = self.cell.state();
        if let Slot::Busy(_) = state.slot {
            state.slot = Slot::Empty;
        }
        drop(state);
        self.cell.changed.notify_all();
    }
}
