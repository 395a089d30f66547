//! The control port: health, metrics, and what tests do to the server. Invariant: nothing here is authenticated, and nothing here shows key
//! material, tokens or API keys.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::faults::Fault;
use crate::access::{Grant, token};
use crate::clock::rfc3339;
use crate::config::Rules;
use crate::keys::KeyState;

type Shared = State<Arc<App>>;
type Refused = (StatusCode, Json<Value>);

fn refused(status: StatusCode, message: impl Into<String>) -> Refused {
    (status, Json(json!({"error": message.into()})))
}

/// Everything on the control port.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(metrics))
        .route("/_emu/clock", get(clock))
        .route("/_emu/clock/advance", post(advance))
        .route("/_emu/rules", get(rules).put(set_rules))
        .route("/_emu/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_emu/faults/{id}", delete(remove_fault))
        .route("/_emu/identities", get(identities))
        .route("/_emu/identities/{name}/grants", put(set_grants))
        .route("/_emu/identities/{name}/enabled", put(set_enabled))
        .route("/_emu/roles/revoke", post(revoke_role))
        .route("/_emu/roles/restore", post(restore_roles))
        .route("/_emu/tokens/revoke", post(revoke_tokens))
        .route("/_emu/audit", get(audit).delete(clear_audit))
        .route("/_emu/counters", get(counters).delete(reset_counters))
        .route("/_emu/reset", post(reset))
        .with_state(app)
}

async fn metrics(State(app): Shared) -> impl IntoResponse {
    let now = app.service.clock.now();
    let count = |state: KeyState| {
        let held = app.service.lock();
        held.instances.values().flat_map(|i| i.keys.values()).filter(|k| k.state(now) == state).count() as i64
    };
    let keys = [
        ("active", count(KeyState::Active)),
        ("suspended", count(KeyState::Suspended)),
        ("deactivated", count(KeyState::Deactivated)),
        ("destroyed", count(KeyState::Destroyed)),
    ];
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], app.metrics.text(&keys))
}

async fn clock(State(app): Shared) -> Json<Value> {
    let clock = &app.service.clock;
    Json(json!({"now": rfc3339(clock.now()), "offsetSeconds": clock.offset()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: u32,
}

async fn advance(State(app): Shared, Json(body): Json<Advance>) -> Result<Json<Value>, Refused> {
    let moved = tokio::task::block_in_place(|| app.service.advance(body.seconds));
    match moved {
        Ok(offset) => Ok(Json(json!({"now": rfc3339(app.service.clock.now()), "offsetSeconds": offset}))),
        Err(_) => Err(refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the clock moved, but the store could not keep it",
        )),
    }
}

async fn rules(State(app): Shared) -> Json<Rules> {
    Json(app.service.rules())
}

/// Fields that are left out keep their value.
async fn set_rules(
    State(app): Shared,
    Json(change): Json<serde_json::Map<String, Value>>,
) -> Result<Json<Rules>, Refused> {
    let mut whole = json!(app.service.rules());
    for (name, value) in change {
        whole[name] = value;
    }
    let rules: Rules =
        serde_json::from_value(whole).map_err(|e| refused(StatusCode::BAD_REQUEST, e.to_string()))?;
    app.service.set_rules(rules);
    Ok(Json(rules))
}

async fn faults(State(app): Shared) -> Json<Value> {
    let list = app.faults.list();
    Json(json!(list.into_iter().map(|(id, fault)| json!({"id": id, "fault": fault})).collect::<Vec<_>>()))
}

async fn add_fault(State(app): Shared, Json(order): Json<Value>) -> Result<Json<Value>, Refused> {
    let bad = |message: String| refused(StatusCode::BAD_REQUEST, message);
    let fault: Fault = serde_json::from_value(order.clone()).map_err(|e| bad(e.to_string()))?;
    // serde lets unknown fields pass beside a flattened enum; a misspelt `probability` must not strike always.
    let known = json!(fault);
    let stray = order.as_object().and_then(|o| o.keys().find(|name| known.get(name.as_str()).is_none()));
    if let Some(name) = stray {
        return Err(bad(format!("a fault has no field '{name}'")));
    }
    match fault.problem() {
        Some(problem) => Err(bad(problem)),
        None => Ok(Json(json!({"id": app.faults.add(fault)}))),
    }
}

async fn clear_faults(State(app): Shared) -> StatusCode {
    app.faults.clear();
    StatusCode::NO_CONTENT
}

async fn remove_fault(State(app): Shared, Path(id): Path<u64>) -> StatusCode {
    if app.faults.remove(id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

async fn identities(State(app): Shared) -> Json<Value> {
    let state = app.service.lock();
    let list = state.access.identities();
    Json(json!(
        list.map(|i| json!({"name": i.name, "id": i.id, "enabled": i.enabled, "grants": i.grants}))
            .collect::<Vec<_>>()
    ))
}

fn nobody(name: &str) -> Refused {
    refused(StatusCode::NOT_FOUND, format!("no identity is called '{name}'"))
}

async fn set_grants(
    State(app): Shared,
    Path(name): Path<String>,
    Json(grants): Json<Vec<Grant>>,
) -> Result<StatusCode, Refused> {
    let mut state = app.service.lock();
    state.access.by_name_mut(&name).ok_or_else(|| nobody(&name))?.grants = grants;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_enabled(
    State(app): Shared,
    Path(name): Path<String>,
    Json(enabled): Json<bool>,
) -> Result<StatusCode, Refused> {
    let mut state = app.service.lock();
    state.access.by_name_mut(&name).ok_or_else(|| nobody(&name))?.enabled = enabled;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    identity: String,
}

async fn revoke_role(State(app): Shared, Json(body): Json<Named>) -> Result<StatusCode, Refused> {
    let mut state = app.service.lock();
    let identity = state.access.by_name_mut(&body.identity).ok_or_else(|| nobody(&body.identity))?;
    identity.grants.clear();
    Ok(StatusCode::NO_CONTENT)
}

async fn restore_roles(State(app): Shared, Json(body): Json<Named>) -> Result<StatusCode, Refused> {
    let mut state = app.service.lock();
    let identity = state.access.by_name_mut(&body.identity).ok_or_else(|| nobody(&body.identity))?;
    identity.grants = identity.seeded.clone();
    Ok(StatusCode::NO_CONTENT)
}

/// One token, all tokens of one identity so far, or all tokens so far.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RevokeTokens {
    identity: Option<String>,
    token: Option<String>,
}

async fn revoke_tokens(State(app): Shared, Json(body): Json<RevokeTokens>) -> Result<Json<Value>, Refused> {
    let mut state = app.service.lock();
    if let Some(text) = &body.token {
        let claims = token::read(app.service.token_key(), text)
            .map_err(|_| refused(StatusCode::BAD_REQUEST, "that is no token of this server"))?;
        state.access.revoke_token(&claims.jti);
        return Ok(Json(json!({"tokens": 1})));
    }
    match state.access.revoke_issued(body.identity.as_deref()) {
        0 => Err(nobody(body.identity.as_deref().unwrap_or_default())),
        identities => Ok(Json(json!({"identities": identities}))),
    }
}

/// Filters: `since` (sequence, exclusive), `action`, `operation`, `correlationId`, `key`, `initiator`.
async fn audit(
    State(app): Shared,
    Query(filter): Query<HashMap<String, String>>,
) -> Result<Json<Value>, Refused> {
    let since = match filter.get("since") {
        Some(text) => {
            text.parse().map_err(|_| refused(StatusCode::BAD_REQUEST, "since is a sequence number"))?
        }
        None => 0,
    };
    let same = |name: &str, value: Option<&str>| {
        filter.get(name).is_none_or(|wanted| Some(wanted.as_str()) == value)
    };
    let events = app.audit.events(|e| {
        e.sequence > since
            && same("action", Some(e.action))
            && same("operation", Some(e.operation))
            && same("correlationId", Some(&e.correlation_id))
            && same("key", e.key.as_deref())
            && same("initiator", e.initiator.as_deref())
    });
    Ok(Json(json!(events)))
}

async fn clear_audit(State(app): Shared) -> StatusCode {
    app.audit.clear();
    StatusCode::NO_CONTENT
}

async fn counters(State(app): Shared) -> Json<Value> {
    Json(json!(app.metrics.tallies()))
}

async fn reset_counters(State(app): Shared) -> StatusCode {
    app.metrics.reset_tallies();
    StatusCode::NO_CONTENT
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reset {
    /// Throw keys and clock away too and start again from the seed.
    keys: bool,
}

/// Takes back faults, rules, revocations, counters and the audit trail; the clock only together with the keys.
async fn reset(State(app): Shared, body: Option<Json<Reset>>) -> Result<StatusCode, Refused> {
    app.faults.clear();
    app.service.set_rules(app.service.seeded_rules());
    app.service.lock().access.restore_all();
    app.metrics.reset_tallies();
    app.audit.clear();
    if body.is_some_and(|Json(reset)| reset.keys) {
        tokio::task::block_in_place(|| app.service.start_over())
            .map_err(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, "the store could not be emptied"))?;
    }
    Ok(StatusCode::NO_CONTENT)
}
