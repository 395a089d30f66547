//! How far a sweep is, for those who watch it.
//!
//! Invariant: a report is complete only once a whole sweep was durable; until then its counts are of the walk under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use contract::check_in::SweepReport;

use crate::keys::{KeyError, Why};

/// Files by the version of their current slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By version.
    pub per_version: BTreeMap<String, u64>,
    /// Whose version could not be read, or that could not be rewrapped.
    pub unknown: u64,
}

impl Counts {
    /// One more file of `version`; where the KMS tells no version, nothing is known.
    pub fn add(&mut self, version: &str) {
        if version.is_empty() {
            self.unknown += 1;
        } else {
            *self.per_version.entry(version.to_owned()).or_default() += 1;
        }
    }
}

/// Shared by the sweep and those who watch it.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    report: Option<SweepReport>,
    running: bool,
    trouble: Option<Why>,
    visited: u64,
}

impl Progress {
    /// The running sweep, or the last one; `None` before the first.
    pub fn report(&self) -> Option<SweepReport> {
        self.state().report.clone()
    }

    /// A sweep is running.
    pub fn is_running(&self) -> bool {
        self.state().running
    }

    /// Entries looked at by the walk under way.
    pub fn visited(&self) -> u64 {
        self.state().visited
    }

    /// Why the sweep waits.
    pub fn trouble(&self) -> Option<Why> {
        self.state().trouble.clone()
    }

    /// The sweep is over, whatever came of it.
    pub fn ended(&self) {
        let mut state = self.state();
        state.running = false;
        state.trouble = None;
    }

    pub(super) fn begin(&self, target: &str) {
        let mut state = self.state();
        state.running = true;
        state.visited = 0;
        state.report = Some(SweepReport::begun(target));
    }

    pub(super) fn set_trouble(&self, error: Option<&KeyError>) {
        self.state().trouble = error.map(|error| Why { reason: error.reason(), message: error.to_string() });
    }

    pub(super) fn update(&self, counts: &Counts, rewrapped: u64, visited: u64) {
        let mut state = self.state();
        state.visited = visited;
        if let Some(report) = &mut state.report {
            report.files_per_version.clone_from(&counts.per_version);
            report.unknown = counts.unknown;
            report.rewrapped = rewrapped;
        }
    }

    pub(super) fn complete(&self) {
        let mut state = self.state();
        if let Some(report) = &mut state.report {
            report.complete = true;
            report.completed_at = Some(jiff::Timestamp::now().to_string());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
