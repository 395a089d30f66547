//! The one clock of the server. Invariant: it never goes backwards while keys are kept, so no rule of time can be undone by accident.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch, by the server's clock.
pub type Seconds = i64;

/// One day in seconds.
pub const DAY: Seconds = 86_400;

/// The machine's clock plus an offset that tests move forward.
#[derive(Debug, Default)]
pub struct Clock {
    offset: AtomicI64,
}

impl Clock {
    /// A clock that is `offset` seconds ahead of the machine's.
    pub fn ahead_by(offset: Seconds) -> Self {
        Self { offset: AtomicI64::new(offset) }
    }

    /// The time that every rule of the server goes by.
    pub fn now(&self) -> Seconds {
        wall() + self.offset()
    }

    /// Seconds that this clock is ahead of the machine's.
    pub fn offset(&self) -> Seconds {
        self.offset.load(Ordering::SeqCst)
    }

    /// Moves the clock forward by `seconds` and returns the new offset.
    pub fn advance(&self, seconds: u32) -> Seconds {
        self.offset.fetch_add(i64::from(seconds), Ordering::SeqCst) + i64::from(seconds)
    }

    /// Puts the clock back to the machine's time; only for a server whose keys are thrown away too.
    pub(crate) fn rewind(&self) {
        self.offset.store(0, Ordering::SeqCst);
    }
}

/// The machine's own time, for tokens that others issue: they know nothing of our offset.
pub fn wall() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as Seconds)
}

/// RFC 3339 in UTC, as the Key Protect API writes dates.
pub fn rfc3339(at: Seconds) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| "9999-12-31T23:59:59Z".to_owned(), |t| t.to_string())
}

/// Reads an RFC 3339 date with any offset.
pub fn parse_rfc3339(text: &str) -> Option<Seconds> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_moves_every_later_reading() {
        let clock = Clock::ahead_by(10);
        let before = clock.now();
        assert_eq!(clock.advance(3600), 3610);
        assert!(clock.now() >= before + 3600);
    }

    #[test]
    fn dates_survive_the_wire() {
        let at = 1_764_000_000;
        assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        assert_eq!(parse_rfc3339("2025-11-24T17:00:00+01:00"), Some(1_764_000_000));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
