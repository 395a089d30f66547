//! Prometheus metrics of the operator.
//!
//! Invariant: labels come from small fixed sets; no name of a user's object is a label.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How an admission request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod was injected.
    Injected,
    /// Nothing to do.
    Unchanged,
    /// Refused with a reason.
    Refused,
    /// Refused because it could not be decided.
    Undecided,
    /// Let pass with a warning.
    Warned,
}

type Labels = Vec<(&'static str, String)>;

/// All metrics; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    admissions: Family<Labels, Counter>,
    admission_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    certificate_expiry: Family<Labels, Gauge>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets: fn() -> Histogram =
            || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let metrics = Self {
            registry: Arc::default(),
            admissions: Family::default(),
            admission_seconds: Family::new_with_constructor(buckets),
            certificate_expiry: Family::default(),
            leader: Gauge::default(),
        };
        metrics.with_registry(|registry| {
            let help = "Admission requests by outcome";
            registry.register("cofferdam_admission_requests", help, metrics.admissions.clone());
            let help = "Duration of admission requests";
            registry.register(
                "cofferdam_admission_duration_seconds",
                help,
                metrics.admission_seconds.clone(),
            );
            let help = "Unix time at which a certificate of the operator expires";
            registry.register(
                "cofferdam_certificate_expiry_timestamp_seconds",
                help,
                metrics.certificate_expiry.clone(),
            );
            let help = "1 while this replica runs the controllers";
            registry.register("cofferdam_leader", help, metrics.leader.clone());
        });
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Lets another part register its own metrics; their names begin with `cofferdam_`.
    pub fn with_registry<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts an admission request.
    pub fn admission(&self, webhook: &'static str, outcome: Outcome, duration: Duration) {
        let labels =
            vec![("webhook", webhook.to_owned()), ("outcome", format!("{outcome:?}").to_lowercase())];
        self.admissions.get_or_create(&labels).inc();
        let labels = vec![("webhook", webhook.to_owned())];
        self.admission_seconds.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Says when a certificate expires, in seconds since 1970.
    pub fn certificate_expiry(&self, kind: &'static str, unix_seconds: i64) {
        self.certificate_expiry.get_or_create(&vec![("certificate", kind.to_owned())]).set(unix_seconds);
    }

    /// Says whether this replica leads.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}
