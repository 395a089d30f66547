//! Changes that are under way, so that a sweep can wait until none is left that began before it asked.
//!
//! Invariant: nobody who begins a change ever waits here; [`UnderWay::wait`] returns when each change that had begun before
//! has ended, however many begin meanwhile.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    /// Which of the two counts new changes go to.
    side: usize,
    /// Changes that have begun and not ended. The other side's only falls.
    counts: [u64; 2],
}

/// See the module.
#[derive(Default)]
pub struct UnderWay {
    state: Mutex<State>,
    ended: Condvar,
    /// Held by whoever waits: the sides change only when one of them is empty.
    waiting: Mutex<()>,
}

/// A change that is under way.
pub struct Change<'a> {
    under_way: &'a UnderWay,
    side: usize,
}

impl UnderWay {
    /// A change begins.
    pub fn begin(&self) -> Change<'_> {
        let mut state = lock(&self.state);
        let side = state.side;
        state.counts[side] += 1;
        Change { under_way: self, side }
    }

    /// Waits until every change that has begun by now has ended.
    pub fn wait(&self) {
        let _one = lock(&self.waiting);
        let mut state = lock(&self.state);
        let side = state.side;
        state.side = 1 - side;
        while state.counts[side] > 0 {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        lock(&self.under_way.state).counts[self.side] -= 1;
        self.under_way.ended.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn who_waits_waits_for_what_began_before_and_for_nothing_that_begins_later() {
        let under_way = &UnderWay::default();
        under_way.wait();
        std::thread::scope(|scope| {
            let (first, (done, waited)) = (under_way.begin(), channel());
            scope.spawn(move || {
                under_way.wait();
                done.send(()).unwrap();
            });
            assert!(waited.recv_timeout(SHORT).is_err(), "the first one is under way");
            let later = under_way.begin();
            drop(first);
            waited.recv_timeout(LONG).unwrap();
            drop(later);
        });
        under_way.wait();
    }
}
