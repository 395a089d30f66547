//! Locks on ranges of a file's blocks.
//!
//! Invariant: two holders never overlap, so that what one read of a block it is about to write cannot change under it. A
//! holder takes one range and waits for nothing else while it has it but the storage.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The ranges of one file that are being written.
#[derive(Default)]
pub struct Ranges {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// As `(first, last)` block.
    held: Vec<(u64, u64)>,
    /// How many wait: to wake nobody is a system call too.
    waiting: u32,
}

/// A held range.
pub struct Held<'a> {
    ranges: &'a Ranges,
    range: (u64, u64),
}

impl Ranges {
    /// Waits until no block of `first..=last` is held, and holds them.
    pub fn hold(&self, first: u64, last: u64) -> Held<'_> {
        let mut state = self.state();
        while state.held.iter().any(|(start, end)| first <= *end && *start <= last) {
            state.waiting += 1;
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.held.push((first, last));
        Held { ranges: self, range: (first, last) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds everything from `first` on: for changes of the size.
    pub fn hold_from(&self, first: u64) -> Held<'_> {
        self.hold(first, u64::MAX)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.ranges.state();
        if let Some(place) = state.held.iter().position(|range| *range == self.range) {
            state.held.swap_remove(place);
        }
        let awaited = state.waiting > 0;
        drop(state);
        if awaited {
            self.ranges.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn holders_of_overlapping_ranges_exclude_each_other_and_others_do_not() {
        let ranges = Ranges::default();
        let other = ranges.hold(100, 200);
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for first in 0..200 {
                        let _held = ranges.hold(first % 10, 10);
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
        drop(other);
        drop(ranges.hold_from(0));
    }
}
