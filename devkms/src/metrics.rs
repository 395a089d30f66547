//! Counters for tests and Prometheus. Invariant: every call that reached the server is counted once, whatever became of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    operation: &'static str,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// What was counted of one operation since the last reset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Requests that arrived, those that met a fault among them.
    pub requests: u64,
    /// Requests that met a fault.
    pub faults: u64,
    /// Answers by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<Outcome, Counter>,
    faults: Family<Operation, Counter>,
    durations: Family<Operation, Histogram>,
    keys: Family<State, Gauge>,
    tallies: Mutex<BTreeMap<&'static str, Tally>>,
}

fn histogram() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("cofferdam_devkms");
        let calls = Family::default();
        let faults = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let keys = Family::default();
        registry.register(
            "calls",
            "Calls by operation and HTTP status, `cut` where none was sent",
            calls.clone(),
        );
        registry.register("faults", "Calls that met an injected fault", faults.clone());
        registry.register_with_unit(
            "call_duration",
            "Time from request to answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("keys", "Keys by state", keys.clone());
        Self { registry, calls, faults, durations, keys, tallies: Mutex::default() }
    }
}

impl Metrics {
    /// A request arrived.
    pub fn arrived(&self, operation: &'static str) {
        self.tally(operation, |tally| tally.requests += 1);
    }

    /// A request met a fault.
    pub fn faulted(&self, operation: &'static str) {
        self.faults.get_or_create(&Operation { operation }).inc();
        self.tally(operation, |tally| tally.faults += 1);
    }

    /// A request was answered, or cut where there is no status.
    pub fn finished(&self, operation: &'static str, status: Option<u16>, took: Duration) {
        let label = status.map_or_else(|| "cut".to_owned(), |s| s.to_string());
        self.calls.get_or_create(&Outcome { operation, status: label }).inc();
        self.durations.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
        if let Some(status) = status {
            self.tally(operation, |tally| *tally.statuses.entry(status).or_default() += 1);
        }
    }

    fn tally(&self, operation: &'static str, change: impl FnOnce(&mut Tally)) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        change(tallies.entry(operation).or_default());
    }

    /// Tallies by operation since the last reset.
    pub fn tallies(&self) -> BTreeMap<&'static str, Tally> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the tallies anew; Prometheus' counters only ever grow.
    pub fn reset_tallies(&self) {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The text that Prometheus scrapes; `keys` by state at this moment.
    pub fn text(&self, keys: &[(&'static str, i64)]) -> String {
        for (state, count) in keys {
            self.keys.get_or_create(&State { state }).set(*count);
        }
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}
