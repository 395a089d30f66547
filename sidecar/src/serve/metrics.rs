//! Prometheus metrics of the sidecar.
//!
//! Invariant: labels are volume names and fixed words; nothing names a key or a file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use contract::check_in::VolumePhase;
use kms::observe::{Attempt, BreakerState, CacheEvent, Observer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::board::Board;
use crate::check_in::CheckInError;
use crate::fs::{Counters, EncryptedFs};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Event {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VolumeLabel {
    volume: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    volume: String,
    phase: &'static str,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    kms: Arc<KmsCounts>,
    phases: Family<PhaseLabel, Gauge>,
    volumes: VolumeFigures,
    sweep_rewrapped: Family<VolumeLabel, Gauge>,
    sweep_unknown: Family<VolumeLabel, Gauge>,
    check_ins: Family<Event, Counter>,
    filling: Mutex<()>,
}

/// What the connections to the KMS count.
pub struct KmsCounts {
    calls: Family<Call, Counter>,
    seconds: Family<Operation, Histogram>,
    retries: Family<Operation, Counter>,
    cache: Family<Event, Counter>,
    breaker: Gauge,
}

impl Observer for KmsCounts {
    fn attempt(&self, attempt: &Attempt) {
        let op = attempt.op.as_str();
        self.calls.get_or_create(&Call { op, outcome: attempt.outcome }).inc();
        self.seconds.get_or_create(&Operation { op }).observe(attempt.latency.as_secs_f64());
    }

    fn retry(&self, op: kms::Op) {
        self.retries.get_or_create(&Operation { op: op.as_str() }).inc();
    }

    fn cache(&self, event: CacheEvent) {
        let event = match event {
            CacheEvent::Hit => "hit",
            CacheEvent::Miss => "miss",
            CacheEvent::Grace => "grace",
            CacheEvent::Purge => "purge",
        };
        self.cache.get_or_create(&Event { event }).inc();
    }

    fn breaker(&self, state: BreakerState) {
        self.breaker.set(i64::from(state != BreakerState::Closed));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram =
            || Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]);
        let kms = Arc::new(KmsCounts {
            calls: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            retries: Family::default(),
            cache: Family::default(),
            breaker: Gauge::default(),
        });
        let mut registry = Registry::with_prefix("cofferdam");
        registry.register("kms_calls", "Exchanges with the KMS", kms.calls.clone());
        registry.register("kms_call_seconds", "How long exchanges with the KMS took", kms.seconds.clone());
        registry.register("kms_retries", "Calls to the KMS that were tried again", kms.retries.clone());
        registry.register("kms_cache_events", "What the cache of unwrapped keys did", kms.cache.clone());
        registry.register(
            "kms_breaker_open",
            "1 while the KMS is left alone after failures",
            kms.breaker.clone(),
        );
        let phases = Family::default();
        registry.register("volume_phase", "1 for the phase that a volume is in", phases.clone());
        let volumes = VolumeFigures::register(&mut registry);
        let sweep_rewrapped = Family::default();
        registry.register(
            "sweep_rewrapped_files",
            "Files rewrapped by the last sweep",
            sweep_rewrapped.clone(),
        );
        let sweep_unknown = Family::default();
        registry.register(
            "sweep_unknown_files",
            "Files whose version the last sweep could not read",
            sweep_unknown.clone(),
        );
        let check_ins = Family::default();
        registry.register("check_ins", "Check-ins with the operator", check_ins.clone());
        Self {
            registry,
            kms,
            phases,
            volumes,
            sweep_rewrapped,
            sweep_unknown,
            check_ins,
            filling: Mutex::new(()),
        }
    }
}

impl Metrics {
    /// For the connections to the KMS.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::<KmsCounts>::clone(&self.kms)
    }

    /// One check-in ended, with an error or without.
    pub fn check_in(&self, error: Option<&CheckInError>) {
        let event = match error {
            None => "accepted",
            Some(CheckInError::Busy { .. }) => "busy",
            Some(_) => "failed",
        };
        self.check_ins.get_or_create(&Event { event }).inc();
    }

    /// The metrics in the OpenMetrics text format.
    pub fn text(&self, board: &Board) -> Result<String, std::fmt::Error> {
        let _filling = self.filling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for row in board.rows() {
            let (state, volume) = (row.state(), row.name.clone());
            for (phase, word) in PHASES {
                let label = PhaseLabel { volume: volume.clone(), phase: word };
                self.phases.get_or_create(&label).set(i64::from(state.phase == phase));
            }
            let label = VolumeLabel { volume };
            if let Some(fs) = row.fs.get() {
                self.volumes.fill(&label, fs);
            }
            if let Some(sweep) = row.sweep.report() {
                self.sweep_rewrapped.get_or_create(&label).set(sweep.rewrapped as i64);
                self.sweep_unknown.get_or_create(&label).set(sweep.unknown as i64);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What the filesystems count. Gauges, because they are taken over when somebody asks.
struct VolumeFigures {
    figures: Vec<(Figure, Family<VolumeLabel, Gauge>)>,
    inodes: Family<VolumeLabel, Gauge>,
}

/// Where a figure is found.
type Figure = fn(&Counters) -> &AtomicU64;

impl VolumeFigures {
    fn register(registry: &mut Registry) -> Self {
        let known: [(&str, &str, Figure); 9] = [
            ("read_bytes", "Bytes of plaintext read", |counters| &counters.read_bytes),
            ("written_bytes", "Bytes of plaintext written", |counters| &counters.written_bytes),
            ("lazy_rewraps", "Files rewrapped because they were opened", |counters| &counters.upgraded),
            ("lazy_rewrap_errors", "Such rewraps that failed", |counters| &counters.upgrades_failed),
            ("headerless_files", "Files without a header that read as empty", |counters| {
                &counters.headerless
            }),
            ("integrity_errors", "Blocks, headers or seals that did not open", |counters| &counters.damaged),
            ("seals_closed", "Files sealed at the size at which they were left", |counters| {
                &counters.seals_closed
            }),
            ("seals_opened", "Sealed files whose size was about to change", |counters| {
                &counters.seals_opened
            }),
            ("renamed_entries", "Entries that got another name", |counters| &counters.renamed),
        ];
        let register = |(name, help, figure): (&str, &str, Figure)| {
            let family = Family::default();
            registry.register(name, help, family.clone());
            (figure, family)
        };
        let figures = known.into_iter().map(register).collect();
        let inodes = Family::default();
        registry.register("known_inodes", "Inodes that the kernel knows", inodes.clone());
        Self { figures, inodes }
    }

    fn fill(&self, label: &VolumeLabel, fs: &EncryptedFs) {
        for (figure, family) in &self.figures {
            family.get_or_create(label).set(figure(fs.counters()).load(Ordering::Relaxed) as i64);
        }
        self.inodes.get_or_create(label).set(fs.inodes() as i64);
    }
}

const PHASES: [(VolumePhase, &str); 6] = [
    (VolumePhase::Waiting, "Waiting"),
    (VolumePhase::Serving, "Serving"),
    (VolumePhase::Suspended, "Suspended"),
    (VolumePhase::Failed, "Failed"),
    (VolumePhase::Sweeping, "Sweeping"),
    (VolumePhase::Swept, "Swept"),
];
