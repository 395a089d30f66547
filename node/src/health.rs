//! `/metrics`, `/healthz`, `/readyz` over HTTP.
//!
//! Invariant: alive means that the deadlines are applied; ready means that kubelet took the driver and that the pods are known.
//! Neither depends on a pod, a sidecar or a KMS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::registration::Registered;

/// How long the deadlines may stand still.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What the endpoints tell.
#[derive(Clone)]
pub struct Health {
    /// The metrics.
    pub metrics: Metrics,
    /// What kubelet said.
    pub registered: watch::Receiver<Registered>,
    /// Whether the pods are known.
    pub pods_known: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Rounds of the deadlines so far.
    pub rounds: Arc<AtomicU64>,
    progress: Arc<Mutex<(u64, Instant)>>,
}

impl Health {
    /// With nothing seen yet.
    pub fn new(
        metrics: Metrics,
        registered: watch::Receiver<Registered>,
        pods_known: Arc<dyn Fn() -> bool + Send + Sync>,
        rounds: Arc<AtomicU64>,
    ) -> Self {
        Self { metrics, registered, pods_known, rounds, progress: Arc::new(Mutex::new((0, Instant::now()))) }
    }

    /// Whether the deadlines are applied.
    pub fn is_alive(&self, now: Instant) -> bool {
        let rounds = self.rounds.load(Ordering::Relaxed);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.0 != rounds {
            *progress = (rounds, now);
        }
        now.duration_since(progress.1) < STANDSTILL
    }

    /// What is missing, or nothing.
    pub fn missing(&self) -> Option<String> {
        match &*self.registered.borrow() {
            Registered::Refused(error) => return Some(format!("kubelet refused the driver: {error}")),
            Registered::NotYet => return Some("kubelet has not registered the driver yet".into()),
            Registered::Yes => {}
        }
        (!(self.pods_known)()).then(|| "this node's pods are not known yet".into())
    }
}

/// The endpoints.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], health.metrics.text())
}

async fn healthz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_alive(Instant::now()) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the deadlines stand still")
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    health
        .missing()
        .map_or((StatusCode::OK, "ok".into()), |missing| (StatusCode::SERVICE_UNAVAILABLE, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_dead_when_its_deadlines_stand_still_and_ready_when_kubelet_and_pods_are() {
        let (result, registered) = watch::channel(Registered::NotYet);
        let rounds = Arc::new(AtomicU64::new(1));
        let known = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asked = known.clone();
        let pods_known = Arc::new(move || asked.load(Ordering::Relaxed));
        let health = Health::new(Metrics::default(), registered, pods_known, rounds.clone());
        let start = Instant::now();
        assert!(health.is_alive(start));
        assert!(!health.is_alive(start + STANDSTILL));
        rounds.fetch_add(1, Ordering::Relaxed);
        assert!(health.is_alive(start + STANDSTILL));
        assert!(health.missing().is_some_and(|missing| missing.contains("not registered")));
        result.send_replace(Registered::Yes);
        assert!(health.missing().is_some_and(|missing| missing.contains("pods")));
        known.store(true, Ordering::Relaxed);
        assert_eq!(health.missing(), None);
        result.send_replace(Registered::Refused("no".into()));
        assert!(health.missing().is_some());
    }
}
