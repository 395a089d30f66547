//! Reports for tests.
//!
//! Invariant: a sample is valid; a test changes what it is about.

use contract::check_in::{VolumePhase, VolumeReport};

/// A report on a volume of claim `files`.
pub fn report(name: &str, phase: VolumePhase, reason: &str) -> VolumeReport {
    VolumeReport {
        name: name.into(),
        claim: "files".into(),
        phase,
        reason: reason.into(),
        message: format!("said as {reason}"),
        marker: None,
        key: None,
        sweep: None,
        lazy_rewraps: 0,
        integrity_errors: 0,
        warnings: vec![],
    }
}
