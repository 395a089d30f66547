//! Plaintext in the buffers and on the stacks of serving threads, wiped once keys are withheld.
//!
//! Invariant: a thread wipes its own memory, between two requests and when it ends, so that none is wiped under a request; a
//! request costs one look at a number.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroize;

/// How long a nudge may take to reach a thread.
const STEP: Duration = Duration::from_millis(10);
/// How deep the stack of a request is wiped; a thread has four times as much.
const DEPTH: usize = 128 * 1024;

#[derive(Default)]
struct State {
    /// Threads that serve.
    seats: usize,
    /// Of these: have not wiped since the last question.
    behind: usize,
}

/// See the module.
#[derive(Default)]
pub struct Wipes {
    asked: AtomicU64,
    state: Mutex<State>,
    wiped: Condvar,
}

/// A serving thread.
pub struct Seat<'a> {
    wipes: &'a Wipes,
    at: u64,
}

impl Wipes {
    /// This thread serves from now on.
    pub fn seat(&self) -> Seat<'_> {
        let mut state = self.state();
        state.seats += 1;
        Seat { wipes: self, at: self.asked.load(Ordering::SeqCst) }
    }

    /// Waits at most `patience` until each thread has wiped its memory; whether they all have. `nudge` makes so many threads
    /// that wait for a request come back.
    pub fn ask(&self, patience: Duration, nudge: impl Fn(usize)) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.state();
        state.behind = state.seats;
        self.asked.fetch_add(1, Ordering::SeqCst);
        while state.behind > 0 {
            if Instant::now() >= end {
                return false;
            }
            let behind = state.behind;
            drop(state);
            nudge(behind);
            let waited = self.wiped.wait_timeout_while(self.state(), STEP, |state| state.behind > 0);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// Whether the thread is to wipe its memory now.
    pub fn is_asked(&self) -> bool {
        self.wipes.asked.load(Ordering::Relaxed) != self.at
    }

    /// It has.
    pub fn has_wiped(&mut self) {
        let mut state = self.wipes.state();
        let asked = self.wipes.asked.load(Ordering::SeqCst);
        if asked != self.at {
            self.at = asked;
            state.behind = state.behind.saturating_sub(1);
            self.wipes.wiped.notify_all();
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.has_wiped();
        self.wipes.state().seats -= 1;
    }
}

/// Overwrites what requests before have left on this thread's stack.
#[inline(never)]
#[allow(clippy::large_stack_arrays, reason = "it is the stack that is to be overwritten")]
pub fn wipe_stack() {
    let mut room = [0xFF_u8; DEPTH];
    black_box(&mut room).zeroize();
    black_box(&room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    #[test]
    fn who_asks_waits_for_every_thread_and_not_for_one_that_is_gone() {
        let (wipes, over, served) = (Wipes::default(), AtomicBool::new(false), AtomicUsize::new(0));
        drop(wipes.seat());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut seat = wipes.seat();
                    served.fetch_add(1, Ordering::SeqCst);
                    while !over.load(Ordering::SeqCst) {
                        if seat.is_asked() {
                            served.fetch_add(1, Ordering::SeqCst);
                            seat.has_wiped();
                        }
                        std::thread::yield_now();
                    }
                });
            }
            while served.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
            for round in 2..5 {
                assert!(wipes.ask(Duration::from_secs(10), |_| ()));
                assert_eq!(served.load(Ordering::SeqCst), 3 * round);
            }
            over.store(true, Ordering::SeqCst);
        });
        let _hangs = wipes.seat();
        assert!(!wipes.ask(Duration::from_millis(30), |behind| assert_eq!(behind, 1)));
    }
}
