//! Whether the threads that serve a connection get on: what a beat to the node driver says.
//!
//! Invariant: pure. It judges by what the serving threads did, never by the thread that asks: that one would go on asking while
//! they all hang.

use std::time::{Duration, Instant};

/// How long all threads may sit in the requests that they have, as on storage that stands still for a moment.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What serving threads show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// One of them waits for a request.
    pub idle: bool,
    /// Grows with every request that is finished.
    pub done: u64,
}

/// What earlier signs leave behind.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    done: u64,
    since: Instant,
}

impl Pulse {
    /// Of a connection whose service begins `now`.
    pub fn new(now: Instant) -> Self {
        Self { done: 0, since: now }
    }

    /// Whether the connection is served: a thread waits for requests, or one was finished within [`PATIENCE`]. `None`: its
    /// session has ended.
    pub fn serves(&mut self, sign: Option<Sign>, now: Instant) -> bool {
        let Some(sign) = sign else { return false };
        if sign.idle || sign.done != self.done {
            *self = Self { done: sign.done, since: now };
        }
        now.duration_since(self.since) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(done: u64) -> Sign {
        Sign { idle: false, done }
    }

    fn idle(done: u64) -> Sign {
        Sign { idle: true, done }
    }

    #[test]
    fn a_thread_that_waits_for_requests_serves_however_long_none_comes() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert!(pulse.serves(Some(idle(5)), start + PATIENCE));
        assert!(pulse.serves(Some(idle(5)), start + 9 * PATIENCE));
    }

    #[test]
    fn threads_that_are_all_busy_serve_as_long_as_one_gets_done() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        for round in 1..9 {
            assert!(
                pulse
                    .serves(Some(busy(round)), start + PATIENCE * u32::try_from(round).expect("it is small"))
            );
        }
    }

    #[test]
    fn threads_that_all_sit_in_the_same_requests_do_not_serve() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert!(pulse.serves(Some(idle(7)), start));
        assert!(pulse.serves(Some(busy(7)), start + PATIENCE / 2));
        assert!(!pulse.serves(Some(busy(7)), start + PATIENCE));
        assert!(!pulse.serves(Some(busy(7)), start + 9 * PATIENCE));
        // One comes back.
        assert!(pulse.serves(Some(busy(8)), start + 9 * PATIENCE));
    }

    #[test]
    fn a_process_that_stood_still_serves_again_as_soon_as_it_goes_on() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert!(pulse.serves(Some(idle(3)), start + 100 * PATIENCE));
    }

    #[test]
    fn what_has_ended_does_not_serve() {
        let start = Instant::now();
        assert!(!Pulse::new(start).serves(None, start));
    }
}
