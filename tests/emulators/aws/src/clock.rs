//! The one clock. Invariant: every rule of time goes by it, and it never goes backwards.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

pub(crate) const DAY: Millis = 24 * 60 * 60 * 1000;

/// The machine's clock and an offset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    ahead: Millis,
}

impl Clock {
    /// Now.
    pub(crate) fn now(&self) -> Millis {
        Timestamp::now().as_millisecond() + self.ahead
    }

    /// Goes forward.
    pub(crate) fn advance(&mut self, millis: u64) {
        self.ahead += millis as Millis;
    }
}

/// As a moment with a calendar.
pub(crate) fn moment(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// As the header `X-Amz-Date` has it.
pub(crate) fn stamp(at: Millis) -> String {
    moment(at).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// As JSON has it: seconds with a fraction.
pub(crate) fn seconds(at: Millis) -> f64 {
    at as f64 / 1000.0
}
