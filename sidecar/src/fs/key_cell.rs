//! The key of an open file, fetched once for all who need it at the same time.
//!
//! Invariant: no lock is held while the key store is asked; a key that was on its way when keys were dropped is used by
//! nobody who asks later. A fetch that fails takes no key away: only [`KeyCell::drop_key`] does.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use envelope::{BlockCipher, Geometry, SealKey};

use super::error::FsError;

/// How long the key that is there serves on, after the key store gave no answer about another one.
const PUT_OFF: Duration = Duration::from_secs(30);

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
    /// Makes and opens the file's seal, if it has one.
    pub seal: Option<SealKey>,
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
    /// Until then the key that is there is good enough.
    put_off: Option<Instant>,
}

impl State {
    /// The key, if it is there and need not be fetched now.
    fn good(&self, is_good: impl Fn(&FileKey) -> bool) -> Option<&Arc<FileKey>> {
        let Slot::Ready(key) = &self.slot else { return None };
        let put_off = self.put_off.is_some_and(|end| Instant::now() < end);
        (put_off || is_good(key)).then_some(key)
    }

    /// Nobody fetches any more, and nothing came of it: the key before stays, unless it was dropped.
    fn back(&mut self) {
        self.slot = match std::mem::take(&mut self.slot) {
            Slot::Busy(Some(before)) => Slot::Ready(before),
            Slot::Busy(None) => Slot::Empty,
            other => other,
        };
    }
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
            if let Some(key) = state.good(&is_good) {
                return Ok(Some(Arc::clone(key)));
            }
            match &state.slot {
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

    /// The key, if it is there and `is_good`, or good enough for now.
    pub fn good(&self, is_good: impl Fn(&FileKey) -> bool) -> Option<Arc<FileKey>> {
        self.state().good(is_good).map(Arc::clone)
    }

    /// The key store gave no answer: the key that is there, which serves on for a while.
    pub fn put_off(&self) -> Option<Arc<FileKey>> {
        let mut state = self.state();
        let (Slot::Ready(key) | Slot::Busy(Some(key))) = &state.slot else { return None };
        let key = Arc::clone(key);
        state.put_off = Some(Instant::now() + PUT_OFF);
        Some(key)
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
        state.put_off = None;
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
            Ok(Some(key)) if state.epoch == epoch => {
                state.slot = Slot::Ready(Arc::clone(key));
                state.put_off = None;
            }
            Ok(_) => state.slot = Slot::Empty,
            Err(error) => {
                state.back();
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
        // Since this fetch was done somebody else may have begun one, which is theirs to end.
        if state.attempt == self.attempt {
            state.back();
        }
        drop(state);
        self.cell.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn there_is_one_fetch_at_a_time_also_where_nothing_comes_of_it() {
        let cell = KeyCell::default();
        let (fetching, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let fetched = cell.get(
                            |_| true,
                            || {
                                most.fetch_max(fetching.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                                std::thread::yield_now();
                                fetching.fetch_sub(1, Ordering::SeqCst);
                                Ok(None)
                            },
                        );
                        assert!(matches!(fetched, Ok(None)));
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
