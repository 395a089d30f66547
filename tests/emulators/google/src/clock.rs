//! The service's clock. Invariant: every rule of time goes by it, and it moves only forward.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The machine's clock, and how far the service is ahead of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    ahead: u32,
}

impl Clock {
    /// Seconds since 1970.
    pub fn now(self) -> i64 {
        Timestamp::now().as_second() + i64::from(self.ahead)
    }

    /// Lets time pass.
    pub fn advance(&mut self, seconds: u32) {
        self.ahead += seconds;
    }
}

/// As the API writes times.
pub fn rfc3339(at: i64) -> String {
    Timestamp::from_second(at).map(|at| at.to_string()).unwrap_or_default()
}

/// As headers have it.
pub fn http_date(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
