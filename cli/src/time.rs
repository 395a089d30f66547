//! Times as they are printed.
//!
//! Invariant: UTC, to the second.

use std::time::SystemTime;

use jiff::Timestamp;

/// `2026-03-01T12:00:00Z`.
pub fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The same of the system's type; `None`: no calendar has it.
pub fn shown_system(at: SystemTime) -> Option<String> {
    Timestamp::try_from(at).ok().map(shown)
}
