//! How long a sidecar that promised beats has sent none.
//!
//! Invariant: pure. Only time in which this driver itself looked counts: a driver that was restarted or stood still has missed
//! beats that were sent, and takes nobody for hung because of it.

use std::time::{Duration, Instant};

/// The most that one look can add, however long ago the one before was: with the time between two beats it stays below the shortest
/// deadline, so that beats which wait to be read are read first.
const LONGEST_STEP: Duration = Duration::from_secs(2);
/// Silence that a person should hear of: several beats did not come.
pub const WORTH_TELLING: Duration = Duration::from_secs(10);

/// The silence of one sidecar about one volume.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    looked: Instant,
    lasted: Duration,
    /// Beats so far.
    beats: u64,
    told: bool,
}

/// What a look found that it did not find before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has lasted for [`WORTH_TELLING`].
    Began,
    /// It is over.
    Ended,
}

impl Silence {
    /// The promise was made `now`.
    pub fn new(now: Instant) -> Self {
        Self { looked: now, lasted: Duration::ZERO, beats: 0, told: false }
    }

    /// A beat has come.
    pub fn broken(&mut self, now: Instant) {
        (self.looked, self.lasted) = (now, Duration::ZERO);
        self.beats += 1;
    }

    /// Looks at the clock; whether there is something to tell.
    pub fn look(&mut self, now: Instant) -> Option<Change> {
        self.lasted += now.duration_since(self.looked).min(LONGEST_STEP);
        self.looked = now;
        let tell = self.lasted >= WORTH_TELLING;
        let change = (tell != self.told).then_some(if tell { Change::Began } else { Change::Ended });
        self.told = tell;
        change
    }

    /// For how long it had lasted at the last look or beat.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// Beats so far: tells two looks between which one came.
    pub fn beats(&self) -> u64 {
        self.beats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(500);

    /// Looks every half second until `end`; the changes.
    fn look_until(silence: &mut Silence, start: Instant, end: Instant) -> Vec<Change> {
        let mut changes = vec![];
        let mut now = start;
        while now < end {
            now += ROUND;
            changes.extend(silence.look(now));
        }
        changes
    }

    #[test]
    fn it_grows_with_every_look_and_a_beat_breaks_it() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let later = start + Duration::from_secs(4);
        look_until(&mut silence, start, later);
        assert_eq!(silence.lasted(), Duration::from_secs(4));
        silence.broken(later);
        assert_eq!((silence.lasted(), silence.beats()), (Duration::ZERO, 1));
        silence.look(later + ROUND);
        assert_eq!(silence.lasted(), ROUND);
    }

    #[test]
    fn time_in_which_the_driver_stood_still_is_no_silence() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        silence.look(start + Duration::from_secs(2));
        silence.look(start + Duration::from_secs(3600));
        let shortest = Duration::from_secs(5);
        assert!(silence.lasted() < shortest, "{:?}", silence.lasted());
    }

    #[test]
    fn its_beginning_and_its_end_are_told_once() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let later = start + 3 * WORTH_TELLING;
        assert_eq!(look_until(&mut silence, start, later), [Change::Began]);
        silence.broken(later);
        assert_eq!(look_until(&mut silence, later, later + ROUND * 3), [Change::Ended]);
    }
}
