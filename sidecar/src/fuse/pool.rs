//! How many threads serve.
//!
//! Invariant: as long as fewer than [`MOST`] threads wait for keys or for the disk, another one reads requests: a slow KMS
//! stops nobody who does not need it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::pulse::Sign;

/// The most threads.
const MOST: usize = 512;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// All threads.
    threads: usize,
    /// Of these: waiting for a request.
    idle: usize,
    /// Of these: waiting for something slow, with a request in hand.
    waiting: usize,
    /// How often a thread came for a request: the first time, or because it was done with another one.
    came: u64,
    /// The session has ended: nobody replaces a thread that goes.
    closed: bool,
}

/// See the module. Whoever gets `true` from a method other than [`Pool::begins_idle`] starts a thread.
pub struct Pool {
    counts: Mutex<Counts>,
    /// Threads that serve at the same time.
    target: usize,
    empty: Condvar,
}

impl Pool {
    /// A pool of `threads`, or for as many processors as there are.
    pub fn new(threads: Option<usize>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_target(threads.unwrap_or((2 * processors).clamp(4, 16)))
    }

    fn with_target(target: usize) -> Self {
        Self { counts: Mutex::default(), target, empty: Condvar::new() }
    }

    /// A thread is about to be started on purpose.
    pub fn enter(&self) {
        self.counts().threads += 1;
    }

    /// A thread waits for a request from now on; `false`: there are too many, so that it has left and ends. It is counted out
    /// here, because others ask at the same time, and not all may go.
    pub fn begins_idle(&self) -> bool {
        let mut counts = self.counts();
        // Under the lock that is held anyway: a beat costs the serving threads nothing.
        counts.came += 1;
        if counts.threads.saturating_sub(counts.waiting) > self.target {
            counts.threads -= 1;
            return false;
        }
        counts.idle += 1;
        true
    }

    /// A thread has a request.
    pub fn ends_idle(&self) -> bool {
        let mut counts = self.counts();
        counts.idle -= 1;
        self.grow(&mut counts)
    }

    /// A thread waits for something slow from now on.
    pub fn begins_waiting(&self) -> bool {
        let mut counts = self.counts();
        counts.waiting += 1;
        self.grow(&mut counts)
    }

    /// It goes on.
    pub fn ends_waiting(&self) {
        self.counts().waiting -= 1;
    }

    /// What the threads are doing; `None` once the session has ended.
    pub fn sign(&self) -> Option<Sign> {
        let counts = self.counts();
        (!counts.closed).then_some(Sign { idle: counts.idle > 0, done: counts.came })
    }

    /// The session has ended. Without this the threads that see it would each start another one, for ever.
    pub fn close(&self) {
        self.counts().closed = true;
    }

    /// A thread ended because the session did, or could not be started.
    pub fn leave(&self) {
        let mut counts = self.counts();
        counts.threads -= 1;
        if counts.threads == 0 {
            self.empty.notify_all();
        }
    }

    /// Waits until all threads ended; `None`: for ever. Whether they did.
    pub fn wait_empty(&self, patience: Option<Duration>) -> bool {
        let counts = self.counts();
        let busy = |counts: &mut Counts| counts.threads > 0;
        match patience {
            None => {
                drop(self.empty.wait_while(counts, busy).unwrap_or_else(PoisonError::into_inner));
                true
            }
            Some(patience) => {
                let waited = self.empty.wait_timeout_while(counts, patience, busy);
                !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
            }
        }
    }

    fn grow(&self, counts: &mut Counts) -> bool {
        let serving = counts.threads.saturating_sub(counts.waiting);
        let grows = !counts.closed && counts.idle == 0 && serving < self.target && counts.threads < MOST;
        counts.threads += usize::from(grows);
        grows
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_is_replaced_and_the_surplus_ends() {
        let pool = Pool::with_target(1);
        pool.enter();
        assert!(pool.begins_idle());
        // One thread serves, as many as wanted.
        assert!(!pool.ends_idle());
        // It waits: another one takes its place.
        assert!(pool.begins_waiting());
        assert!(pool.begins_idle());
        pool.ends_waiting();
        assert!(!pool.begins_idle(), "there are two, and one is enough");
        assert!(!pool.wait_empty(Some(Duration::ZERO)));
        pool.leave();
        assert!(pool.wait_empty(None));
    }

    #[test]
    fn of_many_that_end_their_wait_at_once_as_many_stay_as_are_wanted() {
        let pool = Pool::with_target(4);
        pool.enter();
        for _ in 0..100 {
            assert!(pool.begins_waiting());
        }
        for _ in 0..100 {
            pool.ends_waiting();
        }
        let stay = (0..101).filter(|_| pool.begins_idle()).count();
        assert_eq!(stay, 4);
    }

    #[test]
    fn nobody_is_started_once_the_session_has_ended() {
        let pool = Pool::with_target(4);
        pool.enter();
        assert!(pool.begins_idle());
        pool.close();
        assert!(!pool.ends_idle());
        assert!(!pool.begins_waiting());
        pool.leave();
        assert!(pool.wait_empty(Some(Duration::ZERO)));
    }

    #[test]
    fn its_sign_tells_an_idle_thread_a_finished_request_and_the_end() {
        let pool = Pool::with_target(1);
        pool.enter();
        assert!(pool.begins_idle());
        assert!(pool.sign().is_some_and(|sign| sign.idle));
        pool.ends_idle();
        let busy = pool.sign();
        assert_eq!(busy, pool.sign());
        assert!(busy.is_some_and(|sign| !sign.idle));
        // It is done, and takes the next one at once.
        assert!(pool.begins_idle());
        pool.ends_idle();
        assert_ne!(busy, pool.sign());
        pool.close();
        assert_eq!(pool.sign(), None);
    }

    #[test]
    fn there_is_a_limit_however_many_wait() {
        let pool = Pool::with_target(1);
        pool.enter();
        let started = (0..2 * MOST).filter(|_| pool.begins_waiting()).count();
        assert_eq!(started, MOST - 1);
    }
}
