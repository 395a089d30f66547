//! What of a file is known to be on the device, so that a change that relies on it can see to it first.
//!
//! Invariant: what this says is durable is; what it does not know of (an earlier process, a `syncfs`) counts as not durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
pub struct Durable {
    /// Writes within the file so far, and one for all that came before. Each is counted once the storage has it.
    overwrites: AtomicU64,
    state: Mutex<State>,
}

impl Default for Durable {
    /// Nothing is known.
    fn default() -> Self {
        Self { overwrites: AtomicU64::new(1), state: Mutex::default() }
    }
}

#[derive(Default)]
struct State {
    /// The file has at least so many bytes on the device.
    size: u64,
    /// So many of the overwrites are there.
    overwrites: u64,
    /// How often the file became shorter.
    cuts: u64,
}

/// The moment just before a sync.
#[derive(Clone, Copy)]
pub struct Mark {
    size: u64,
    overwrites: u64,
    cuts: u64,
}

impl Durable {
    /// The file was just made: nothing came before.
    pub fn is_new(&self) {
        self.state().overwrites = 1;
    }

    /// Blocks within the file were written.
    pub fn overwritten(&self) {
        self.overwrites.fetch_add(1, Ordering::SeqCst);
    }

    /// The file became shorter: it has `size` bytes.
    pub fn cut(&self, size: u64) {
        let mut state = self.state();
        state.cuts += 1;
        state.size = state.size.min(size);
    }

    /// A sync of a file of `size` bytes is about to begin.
    pub fn mark(&self, size: u64) -> Mark {
        let cuts = self.state().cuts;
        Mark { size, overwrites: self.overwrites.load(Ordering::SeqCst), cuts }
    }

    /// The sync that was about to begin at `mark` has ended well.
    pub fn synced(&self, mark: Mark) {
        let mut state = self.state();
        state.overwrites = state.overwrites.max(mark.overwrites);
        if state.cuts == mark.cuts {
            state.size = state.size.max(mark.size);
        }
    }

    /// Bytes that the file has at least.
    pub fn size(&self) -> u64 {
        self.state().size
    }

    /// Whether all that was written within the file is there.
    pub fn has_all_overwrites(&self) -> bool {
        self.state().overwrites == self.overwrites.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_before_a_sync_is_durable_after_it() {
        let durable = Durable::default();
        assert_eq!(durable.size(), 0);
        assert!(!durable.has_all_overwrites(), "nobody knows what an earlier process wrote");
        durable.is_new();
        assert!(durable.has_all_overwrites());
        durable.overwritten();
        let mark = durable.mark(100);
        durable.overwritten();
        durable.synced(mark);
        assert_eq!(durable.size(), 100);
        assert!(!durable.has_all_overwrites());
        durable.synced(durable.mark(200));
        assert_eq!(durable.size(), 200);
        assert!(durable.has_all_overwrites());
    }

    #[test]
    fn a_cut_during_a_sync_leaves_nothing_known_behind_it() {
        let durable = Durable::default();
        durable.synced(durable.mark(100));
        let mark = durable.mark(200);
        durable.cut(50);
        durable.synced(mark);
        assert_eq!(durable.size(), 50);
    }
}
