//! The one clock of the server. Invariant: it goes forward only.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
pub(crate) type Seconds = i64;

/// A day in seconds.
pub(crate) const DAY: Seconds = 86_400;

/// The machine's clock and an offset.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    pub(crate) fn ahead_by(offset: Seconds) -> Self {
        Self(AtomicI64::new(offset))
    }

    pub(crate) fn now(&self) -> Seconds {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        i64::try_from(machine).unwrap() + self.offset()
    }

    pub(crate) fn offset(&self) -> Seconds {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, seconds: Seconds) {
        assert!(seconds >= 0, "time goes forward");
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}
