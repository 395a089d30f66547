//! `/healthz`, `/readyz` and `/metrics` on the sidecar's port.
//!
//! Invariant: health says that the process answers and never depends on the KMS; readiness says that data is served.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::board::Board;
use super::metrics::Metrics;

/// Serves until the process ends. A port that is taken is logged, and everything else goes on.
pub async fn serve(port: u16, board: Board, metrics: Arc<Metrics>) {
    let ready = board.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                let status = ready.status();
                let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (code, format!("{}\n", status.message))
            }),
        )
        .route("/metrics", get(move || async move { metrics_text(&board, &metrics) }));
    // One socket for both families; a node without IPv6 gets the other one.
    let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from(([0, 0, 0, 0], port))];
    match tokio::net::TcpListener::bind(&any[..]).await {
        Ok(listener) => {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the metrics server ended");
            }
        }
        Err(error) => tracing::warn!(%error, port, "cannot serve metrics"),
    }
}

fn metrics_text(board: &Board, metrics: &Metrics) -> impl IntoResponse + use<> {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.text(board) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, TYPE)], text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new()),
    }
}
