//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Invariant: ready means that the webhook can decide (every store has had its first list) and be trusted (it has a certificate);
//! neither depends on a KMS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;

/// What `/readyz` looks at.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    stores: Arc<AtomicBool>,
    certificate: Arc<AtomicBool>,
}

impl Readiness {
    /// Every store has had its first list.
    pub fn stores_filled(&self) {
        self.stores.store(true, Ordering::Release);
    }

    /// The servers have a certificate.
    pub fn certificate_loaded(&self) {
        self.certificate.store(true, Ordering::Release);
    }

    fn missing(&self) -> Vec<&'static str> {
        let all = [("stores", &self.stores), ("certificate", &self.certificate)];
        all.iter().filter(|(_, is)| !is.load(Ordering::Acquire)).map(|(name, _)| *name).collect()
    }
}

/// The routes.
pub fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(text).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        return "ok".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}", missing.join(", "))).into_response()
}

async fn text(State(metrics): State<Metrics>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match metrics.text() {
        Ok(text) => (kind, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(), ["stores", "certificate"]);
        readiness.stores_filled();
        assert_eq!(readiness.missing(), ["certificate"]);
        readiness.certificate_loaded();
        assert!(readiness.missing().is_empty());
    }
}
