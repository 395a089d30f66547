//! HTTP in front of the check-ins.
//!
//! Invariant: an answer says no more than a status code, when to come again, and the orders of the sender's own volumes. That
//! there is too much to do is never said as if the sender were a wrong one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use contract::check_in::CheckIn;
use contract::names::CHECK_IN_PATH;
use kube::Client;

use super::evict::Evictions;
use super::identity::{Identities, IdentityError};
use super::metrics::{Metrics, Outcome};
use super::receive::Refusal;
use crate::causes::Causes;
use crate::controllers::events::Events;

/// The largest report, in bytes: a pod has few volumes, a key few versions.
const LARGEST: usize = 256 * 1024;

/// `Retry-After` where there is too much to do, in seconds: a bucket holds some reviews again by then, and reviews that are
/// under way have ended.
const COME_AGAIN: u32 = 5;

/// What the server works with.
pub struct CheckIns {
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) identities: Identities,
    pub(super) evictions: Evictions,
    pub(super) metrics: Metrics,
}

impl CheckIns {
    /// With nothing known yet. The client should not try again by itself: a sidecar does, and so does an eviction.
    pub fn new(client: Client, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            events: Events::new(client.clone()),
            client,
            identities: Identities::default(),
            evictions: Evictions::default(),
            metrics,
        })
    }
}

/// The routes. They must be served with the peer's address, as [`crate::https::serve`] does.
pub fn router(check_ins: Arc<CheckIns>) -> Router {
    Router::new()
        .route(CHECK_IN_PATH, post(check_in))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(check_ins)
}

async fn check_in(
    State(check_ins): State<Arc<CheckIns>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    report: Result<Json<CheckIn>, JsonRejection>,
) -> Response {
    let Some(token) = bearer(&headers) else {
        check_ins.metrics.check_in(Outcome::Unauthenticated);
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let report = match report {
        Ok(Json(report)) => report,
        Err(rejection) => {
            check_ins.metrics.check_in(Outcome::Malformed);
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            return if too_large { rejection.status() } else { StatusCode::BAD_REQUEST }.into_response();
        }
    };
    match check_ins.receive(token, peer.ip(), &report).await {
        Ok(reply) => {
            let all = reply.volumes.len() == report.volumes.len();
            check_ins.metrics.check_in(if all { Outcome::Accepted } else { Outcome::Partial });
            Json(reply).into_response()
        }
        Err(refusal) => {
            let (outcome, code) = answer(&refusal);
            log(&refusal, code, peer);
            check_ins.metrics.check_in(outcome);
            match outcome {
                Outcome::Limited | Outcome::Busy => {
                    (code, [(header::RETRY_AFTER, COME_AGAIN.to_string())]).into_response()
                }
                _ => code.into_response(),
            }
        }
    }
}

fn answer(refusal: &Refusal) -> (Outcome, StatusCode) {
    match refusal {
        Refusal::Identity(error) => match error {
            IdentityError::Claims(_) | IdentityError::Remembered | IdentityError::Rejected(_) => {
                (Outcome::Unauthenticated, StatusCode::UNAUTHORIZED)
            }
            IdentityError::Limited => (Outcome::Limited, StatusCode::TOO_MANY_REQUESTS),
            IdentityError::Busy => (Outcome::Busy, StatusCode::SERVICE_UNAVAILABLE),
            IdentityError::Review(_) => (Outcome::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        },
        Refusal::Forbidden(_) => (Outcome::Forbidden, StatusCode::FORBIDDEN),
        Refusal::Api { .. } => (Outcome::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// A refusal that cost no review can be had as often as anybody likes, and shall not fill the log; it is counted.
fn log(refusal: &Refusal, code: StatusCode, peer: SocketAddr) {
    let reviewed =
        |error: &IdentityError| matches!(error, IdentityError::Rejected(_) | IdentityError::Review(_));
    let error = Causes(refusal);
    match refusal {
        Refusal::Identity(why) if !reviewed(why) => {
            tracing::debug!(%error, %code, peer = %peer.ip(), "check-in refused");
        }
        _ => tracing::warn!(%error, %code, peer = %peer.ip(), "check-in refused"),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let token = value.strip_prefix("Bearer ")?.trim();
    (!token.is_empty()).then_some(token)
}
