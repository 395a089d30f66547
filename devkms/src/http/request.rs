//! From an HTTP request to a call, and from its outcome to an answer. Invariant: nobody gets past here without a valid token.

use std::collections::HashMap;

use axum::extract::Query;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use serde_json::Value;

use super::App;
use crate::access::iam::{self, Terms};
use crate::access::{Identity, token};
use crate::audit::Event;
use crate::error::{ApiError, Reason};
use crate::ops::{self, Call, Note};
use crate::route::{Op, Target};

/// An answer, before it becomes HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Option<Value>,
    pub key_total: Option<usize>,
}

impl Answer {
    fn error(error: &ApiError) -> Self {
        Self { status: error.status().as_u16(), body: Some(error.body()), key_total: None }
    }
}

/// The parts of a request that operations need.
pub struct Incoming<'a> {
    pub target: &'a Target,
    pub headers: &'a HeaderMap,
    pub query: &'a HashMap<String, String>,
    pub body: &'a [u8],
}

/// The query as a map; of a repeated name the last counts.
pub fn query(uri: &Uri) -> HashMap<String, String> {
    Query::try_from_uri(uri).map(|Query(map)| map).unwrap_or_default()
}

/// The caller's correlation id, else a new one.
pub fn correlation_id(headers: &HeaderMap) -> String {
    let sent = ["correlation-id", "x-correlation-id"].iter().find_map(|name| text(headers, name));
    sent.filter(|id| id.len() <= 128).map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty())
}

/// Carries out a request and says in `event` what happened.
pub fn answer(app: &App, incoming: &Incoming<'_>, event: &mut Event) -> Answer {
    let answer = match incoming.target.op {
        Op::Token => grant(app, incoming, event),
        Op::Unknown => Answer::error(&Reason::RouteNotFound.into()),
        _ => call(app, incoming, event).unwrap_or_else(|error| {
            event.reason = Some(error.code());
            Answer::error(&error)
        }),
    };
    event.status = Some(answer.status);
    answer
}

fn grant(app: &App, incoming: &Incoming<'_>, event: &mut Event) -> Answer {
    let form: HashMap<String, String> = serde_urlencoded::from_bytes(incoming.body).unwrap_or_default();
    let terms = Terms { now: app.service.clock.now(), lifetime: app.service.rules().token_lifetime };
    let mut state = app.service.lock();
    match iam::grant(&mut state.access, app.service.token_key(), &form, terms) {
        Ok((name, body)) => {
            event.initiator = Some(name);
            Answer { status: 200, body: Some(body), key_total: None }
        }
        Err(error) => {
            event.reason = Some(error.code());
            Answer { status: error.status(), body: Some(error.body(&event.correlation_id)), key_total: None }
        }
    }
}

fn call(app: &App, incoming: &Incoming<'_>, event: &mut Event) -> Result<Answer, ApiError> {
    let caller = authenticate(app, incoming.headers)?;
    event.initiator = Some(caller.name.clone());
    event.initiator_id = Some(caller.id.clone());
    let rules = app.service.rules();
    // An instance that does not exist and one that the caller has no part in look the same.
    let instance = text(incoming.headers, "bluemix-instance").ok_or_else(|| ops::denied(rules))?;
    event.instance = Some(instance.to_owned());
    let prefer = text(incoming.headers, "prefer").unwrap_or_default();
    let call = Call {
        target: incoming.target,
        query: incoming.query,
        body: incoming.body,
        instance,
        ring: text(incoming.headers, "x-kms-key-ring"),
        representation: match prefer.split('=').next_back().map(str::trim) {
            Some("representation") => Some(true),
            Some("minimal") => Some(false),
            _ => None,
        },
        caller: &caller,
        now: app.service.clock.now(),
        rules,
    };
    let mut note = Note::default();
    let result = ops::perform(&app.service, &call, &mut note);
    event.note(note);
    result.map(|reply| Answer { status: reply.status, body: reply.body, key_total: reply.key_total })
}

/// The identity behind the bearer token. One that is not readable is 400, one that is expired or revoked 401, as the service has it.
fn authenticate(app: &App, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let header = text(headers, AUTHORIZATION.as_str()).ok_or(Reason::Unauthorized)?;
    let (scheme, token) = header.split_once(' ').ok_or(Reason::BearerSubject)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reason::BearerSubject.into());
    }
    let claims = token::read(app.service.token_key(), token.trim()).map_err(|_| Reason::BearerSubject)?;
    if claims.refresh.is_some() {
        return Err(Reason::BearerSubject.into());
    }
    let state = app.service.lock();
    let identity = state.access.bearer(&claims, app.service.clock.now());
    identity.cloned().ok_or_else(|| Reason::Unauthorized.into())
}
