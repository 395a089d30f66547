//! One request from arrival to answer, with the fault that it may meet. Invariant: each request is counted and on the audit trail exactly
//! once, also where its answer never leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use futures::StreamExt;
use serde_json::json;

use super::App;
use super::connection::Cutter;
use super::faults::Kind;
use super::request::{Answer, Incoming, answer, correlation_id, query};
use crate::audit::Event;
use crate::route::{Target, classify};

/// More than this no call has to say.
const BODY_LIMIT: usize = 1 << 20;

/// The KMS and IAM.
pub fn router(app: Arc<App>) -> Router {
    Router::new().fallback(handle).with_state(app)
}

/// Counts and records a request when it ends, also where its caller hung up and the request was dropped.
struct Record {
    app: Arc<App>,
    started: Instant,
    event: Event,
}

impl Drop for Record {
    fn drop(&mut self) {
        let event = self.event.clone();
        self.app.metrics.finished(event.operation, event.status, self.started.elapsed());
        self.app.audit.record(event);
    }
}

async fn handle(
    State(app): State<Arc<App>>,
    Extension(cutter): Extension<Cutter>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let query = query(&parts.uri);
    let target = classify(&parts.method, parts.uri.path(), query.get("action").map(String::as_str));
    let operation = target.op.name();
    app.metrics.arrived(operation);
    let fault = app.faults.strike(&target);
    let mut record = Record {
        started: Instant::now(),
        event: Event::new(
            target.op.action(),
            operation,
            app.service.clock.now(),
            correlation_id(&parts.headers),
        ),
        app: app.clone(),
    };
    if let Some((_, kind)) = &fault {
        record.event.fault = Some(kind.name());
        app.metrics.faulted(operation);
    }
    let body = to_bytes(body, BODY_LIMIT).await;
    let mut response = match before(&app, &cutter, fault.as_ref()).await {
        Some(response) => response,
        None => match body {
            Ok(body) => carry_out(&app, &target, &parts.headers, &query, &body, &mut record.event),
            Err(_) => plain(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new()),
        },
    };
    response = after(&cutter, fault.map(|(_, kind)| kind), response).await;
    let cut = record.event.fault.is_some_and(|kind| kind == "hang" || kind == "reset");
    record.event.status = (!cut).then(|| response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&record.event.correlation_id) {
        response.headers_mut().insert("correlation-id", id);
    }
    response
}

fn carry_out(
    app: &App,
    target: &Target,
    headers: &axum::http::HeaderMap,
    query: &std::collections::HashMap<String, String>,
    body: &[u8],
    event: &mut Event,
) -> Response<Body> {
    let incoming = Incoming { target, headers, query, body };
    // The store writes and syncs files, an import token draws an RSA key: both hold this thread up.
    let answer = tokio::task::block_in_place(|| answer(app, &incoming, event));
    encode(&answer)
}

fn encode(answer: &Answer) -> Response<Body> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = answer.body.as_ref().map_or_else(Bytes::new, |v| v.to_string().into());
    let mut response = plain(status, body);
    if let Some(total) = answer.key_total {
        response.headers_mut().insert("key-total", HeaderValue::from(total));
    }
    response
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let json = !body.is_empty();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if json {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// Faults that strike before anything is done; an answer means that nothing will be.
async fn before(app: &App, cutter: &Cutter, fault: Option<&(u64, Kind)>) -> Option<Response<Body>> {
    match fault? {
        (_, Kind::Status { status, code, retry_after }) => {
            Some(refusal(*status, code.as_deref(), *retry_after))
        }
        (_, Kind::Reply { status, headers, body }) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = plain(status, body.clone().into());
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) =
                    (name.parse::<axum::http::HeaderName>(), HeaderValue::from_str(value))
                {
                    response.headers_mut().insert(name, value);
                }
            }
            Some(response)
        }
        (_, Kind::Delay { millis }) => {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
            None
        }
        (id, Kind::Hang) => {
            app.faults.gone(*id).await;
            cutter.cut();
            Some(plain(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()))
        }
        (_, Kind::Reset { after: false }) => {
            cutter.cut();
            Some(plain(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()))
        }
        _ => None,
    }
}

/// Faults that strike the answer; what was asked for is done by then.
async fn after(cutter: &Cutter, fault: Option<Kind>, response: Response<Body>) -> Response<Body> {
    match fault {
        Some(Kind::Reset { after: true }) => {
            cutter.cut();
            response
        }
        Some(Kind::Truncate { bytes }) => {
            let (mut parts, whole) = taken(response).await;
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len().max(bytes + 1)));
            let start = Ok(whole.slice(..bytes.min(whole.len())));
            // The pause lets the server flush what it has: an error at once would take the header along.
            let cut = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe))
            };
            let body = futures::stream::iter([start]).chain(futures::stream::once(cut));
            Response::from_parts(parts, Body::from_stream(body))
        }
        Some(Kind::Trickle { millis }) => {
            let (parts, whole) = taken(response).await;
            let drops = futures::stream::unfold(whole, move |mut rest| async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                (!rest.is_empty()).then(|| (Ok::<_, std::io::Error>(rest.split_to(1)), rest))
            });
            Response::from_parts(parts, Body::from_stream(drops))
        }
        Some(Kind::BadJson) => {
            let (parts, whole) = taken(response).await;
            let half =
                if whole.len() > 1 { whole.slice(..whole.len() / 2) } else { Bytes::from_static(b"{\"") };
            Response::from_parts(parts, Body::from(half))
        }
        Some(Kind::Oversized { bytes }) => {
            let (parts, whole) = taken(response).await;
            let mut padded = whole.to_vec();
            padded.resize(bytes.max(whole.len()), b' ');
            Response::from_parts(parts, Body::from(padded))
        }
        _ => response,
    }
}

async fn taken(response: Response<Body>) -> (axum::http::response::Parts, Bytes) {
    let (parts, body) = response.into_parts();
    (parts, to_bytes(body, usize::MAX).await.unwrap_or_default())
}

fn refusal(status: u16, code: Option<&str>, retry_after: Option<u32>) -> Response<Body> {
    let mut resource = json!({"errorMsg": "refused by an injected fault"});
    if let Some(code) = code {
        resource["reasons"] = json!([{"code": code, "message": "injected fault", "status": status}]);
    }
    let body = json!({
        "metadata": {"collectionType": "application/vnd.ibm.kms.error+json", "collectionTotal": 1},
        "resources": [resource],
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(status, body.to_string().into());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
