//! How fast a sweep may go.
//!
//! Invariant: the application comes first: while requests are under way the sweep sleeps longer than it works.

use std::time::{Duration, Instant};

/// Whether the application has requests under way.
pub type Busy = Box<dyn Fn() -> bool + Send>;

/// Between two looks at files while the application is busy.
const COURTESY: Duration = Duration::from_millis(2);

/// The limiter of one sweep.
pub struct Pace {
    gap: Duration,
    next: Instant,
    busy: Busy,
}

impl Pace {
    /// At most `per_second` rewraps (0: no limit), fewer while `busy` says so.
    pub fn new(per_second: u32, busy: Busy) -> Self {
        let gap = if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self { gap, next: Instant::now(), busy }
    }

    /// Called for each file that is looked at.
    pub fn look(&self) {
        if (self.busy)() {
            std::thread::sleep(COURTESY);
        }
    }

    /// Called before each rewrap.
    pub fn rewrap(&mut self) {
        let now = Instant::now();
        if let Some(wait) = self.next.checked_duration_since(now) {
            std::thread::sleep(wait);
        }
        self.next = self.next.max(now) + self.gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_a_hundred_a_second_takes_a_tenth_of_a_second_for_ten() {
        let mut pace = Pace::new(100, Box::new(|| false));
        let start = Instant::now();
        (0..11).for_each(|_| pace.rewrap());
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}
