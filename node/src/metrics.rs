//! What Prometheus can scrape.
//!
//! Invariant: no label has a pod's, a volume's or a person's name: the number of series is fixed.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;

use crate::decision::{Cause, Phase};

/// The driver's metrics; clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    connections: Family<PhaseLabel, Gauge>,
    aborts: Family<CauseLabel, Counter>,
    silent: Gauge,
    publishes: Family<ResultLabel, Counter>,
    requests: Family<ResultLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    operation: &'static str,
    result: String,
}

const PHASES: [Phase; 5] = [Phase::Unseen, Phase::Attached, Phase::Serving, Phase::Adopted, Phase::Ended];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let connections = Family::default();
        let aborts = Family::default();
        let silent = Gauge::default();
        let publishes = Family::default();
        let requests = Family::default();
        registry.register("cofferdam_fuse_connections", "FUSE connections by phase", connections.clone());
        registry.register("cofferdam_fuse_aborts", "FUSE connections aborted, by cause", aborts.clone());
        registry.register(
            "cofferdam_fuse_silent_connections",
            "FUSE connections whose sidecar has not shown for 10 s that it serves",
            silent.clone(),
        );
        registry.register("cofferdam_csi_requests", "CSI requests by result", publishes.clone());
        registry.register("cofferdam_control_requests", "Requests of sidecars by result", requests.clone());
        Self { registry: Arc::new(registry), connections, aborts, silent, publishes, requests }
    }
}

impl Metrics {
    /// Sets the number of connections in each phase.
    pub fn connections(&self, phases: impl Iterator<Item = Phase>) {
        let mut counts = [0_i64; PHASES.len()];
        for phase in phases {
            counts[PHASES.iter().position(|known| *known == phase).expect("every phase is listed")] += 1;
        }
        for (phase, count) in PHASES.iter().zip(counts) {
            self.connections.get_or_create(&PhaseLabel { phase: format!("{phase:?}") }).set(count);
        }
    }

    /// Counts an abort.
    pub fn aborted(&self, cause: Cause) {
        self.aborts.get_or_create(&CauseLabel { cause: format!("{cause:?}") }).inc();
    }

    /// Sets the number of connections whose sidecar may hang.
    pub fn silent(&self, connections: usize) {
        self.silent.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// Counts a CSI request.
    pub fn csi(&self, operation: &'static str, result: impl std::fmt::Debug) {
        self.publishes.get_or_create(&ResultLabel { operation, result: format!("{result:?}") }).inc();
    }

    /// Counts a sidecar's request.
    pub fn control(&self, operation: &'static str, result: impl std::fmt::Debug) {
        self.requests.get_or_create(&ResultLabel { operation, result: format!("{result:?}") }).inc();
    }

    /// The text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}
