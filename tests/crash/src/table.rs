//! What was looked at, in figures.
//!
//! Invariant: the figures are counted where the work is done.

use std::fmt::Write;
use std::time::Duration;

/// Figures of some workloads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Workloads.
    pub workloads: u64,
    /// Operations on the storage at which they were crashed.
    pub operations: u64,
    /// States that were made.
    pub states: u64,
    /// States that were different from all others of their workload, and looked at.
    pub distinct: u64,
    /// States that were wrong.
    pub violations: u64,
}

impl Counts {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.workloads += other.workloads;
        self.operations += other.operations;
        self.states += other.states;
        self.distinct += other.distinct;
        self.violations += other.violations;
    }
}

/// A line for each row, and one for their sum.
pub fn table(rows: &[(String, Counts, Duration)]) -> String {
    let mut out = String::from(
        "| set | workloads | backing operations | crash states | distinct states | violations | s |\n|---|---|---|---|---|---|---|\n",
    );
    let mut sum = Counts::default();
    let mut line = |name: &str, counts: &Counts, time: Duration| {
        let Counts { workloads, operations, states, distinct, violations } = counts;
        let seconds = time.as_secs();
        let _ = writeln!(
            out,
            "| {name} | {workloads} | {operations} | {states} | {distinct} | {violations} | {seconds} |"
        );
    };
    for (name, counts, time) in rows {
        line(name, counts, *time);
        sum.add(*counts);
    }
    line("all", &sum, rows.iter().map(|(_, _, time)| *time).sum());
    out
}
