//! HTTP: who calls, what is asked, and the answer with the headers that the vendor sends. Invariant: nothing is done for a caller
//! without a token; every answer has the server's own time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::failure::Failure;
use crate::principal::Application;
use crate::server::Product;
use crate::sign_in;
use crate::vault::{Request, Vault, operation};

/// No request is larger.
const LIMIT: usize = 64 * 1024;

/// Versions of the API that it answers to.
const API_VERSIONS: [&str; 5] = ["7.3", "7.4", "7.5", "7.6", "2025-07-01"];

/// A line of the vault's diagnostic log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// `KeyUnwrap`, ….
    pub operation: &'static str,
    /// Its answer.
    pub status: u16,
    /// `clientRequestId`: what the caller sent as `x-ms-client-request-id`.
    pub client_request_id: String,
    /// The client id of the caller; empty for one that is not known.
    pub caller: String,
}

/// What every listener shares.
pub(crate) struct App {
    pub(crate) tenant: String,
    pub(crate) product: Product,
    /// Whose tokens count.
    pub(crate) audience: &'static str,
    pub(crate) clock: Clock,
    pub(crate) vault: Mutex<Vault>,
    pub(crate) applications: Mutex<Vec<Application>>,
    pub(crate) log: Mutex<Vec<LogEntry>>,
}

/// The routes of a listener that is reached by `scheme`.
pub(crate) fn router(app: Arc<App>, scheme: &'static str) -> Router {
    Router::new().fallback(answer).with_state((app, scheme))
}

async fn answer(
    State((app, scheme)): State<(Arc<App>, &'static str)>,
    request: HttpRequest,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LIMIT).await else { return Response::new(Body::empty()) };
    let path: Vec<&str> = parts.uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let base = format!("{scheme}://{}", header(&parts.headers, "host"));
    if let [tenant, "oauth2", "v2.0", "token"] = path.as_slice() {
        let applications = app.applications.lock().unwrap().clone();
        let tokens = &mut app.vault().tokens;
        let (status, body) =
            sign_in::answer(&applications, tokens, (&app.tenant, tenant), &body, app.clock.now());
        return app.respond(status, &body, &parts.headers);
    }
    if let [tenant, "v2.0", ".well-known", "openid-configuration"] = path.as_slice() {
        return app.respond(200, &discovery(&base, tenant), &parts.headers);
    }
    let asked = Asked { method: parts.method.as_str(), path: &path, query: parts.uri.query(), base: &base };
    app.vault_answer(&asked, &parts.headers, &body)
}

/// A request to the vault, as it came.
struct Asked<'a> {
    method: &'a str,
    path: &'a [&'a str],
    query: Option<&'a str>,
    base: &'a str,
}

impl App {
    pub(crate) fn vault(&self) -> MutexGuard<'_, Vault> {
        self.vault.lock().unwrap()
    }

    fn vault_answer(&self, asked: &Asked<'_>, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let caller = self.caller(headers);
        let name = caller.as_ref().map(|caller| caller.client_id.clone()).unwrap_or_default();
        let answer = caller.and_then(|caller| self.carry_out(asked, &caller, body));
        let (status, body) = answer.unwrap_or_else(|failure| (failure.status, failure.body()));
        self.log.lock().unwrap().push(LogEntry {
            operation: operation(asked.method, asked.path),
            status,
            client_request_id: header(headers, "x-ms-client-request-id").into(),
            caller: name,
        });
        self.respond(status, &body, headers)
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Application, Failure> {
        let token = header(headers, "authorization").strip_prefix("Bearer ");
        let token = token
            .ok_or_else(|| Failure::unauthorized("AKV10000: Request is missing a Bearer or PoP token."))?;
        let client_id = self.vault().tokens.verify(token, self.audience, self.clock.now())?;
        let applications = self.applications.lock().unwrap();
        let found = applications.iter().find(|application| application.client_id == client_id);
        found.cloned().ok_or_else(|| Failure::unauthorized("AKV10032: Invalid issuer."))
    }

    fn carry_out(
        &self,
        asked: &Asked<'_>,
        caller: &Application,
        body: &[u8],
    ) -> Result<(u16, Value), Failure> {
        let query: BTreeMap<String, String> =
            serde_urlencoded::from_str(asked.query.unwrap_or_default()).unwrap_or_default();
        let version = query.get("api-version").map(String::as_str).unwrap_or_default();
        if !API_VERSIONS.contains(&version) {
            return Err(Failure::bad_parameter("api-version was not specified or is not supported."));
        }
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(body)
                .map_err(|_| Failure::bad_parameter("The request body is not JSON."))?
        };
        let (method, path, base) = (asked.method, asked.path, asked.base);
        let (product, now) = (self.product, self.clock.now());
        self.vault().answer(&Request { method, path, query: &query, body: &body, caller, product, base, now })
    }

    fn respond(&self, status: u16, body: &Value, asked: &HeaderMap) -> Response<Body> {
        let now = jiff::Timestamp::from_second(self.clock.now()).unwrap();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
        let mut response = Response::builder()
            .status(status)
            .header("Date", date)
            .header("Cache-Control", "no-cache")
            .header("x-ms-request-id", uuid::Uuid::new_v4().to_string())
            .header("x-ms-keyvault-service-version", "1.9.0.0");
        if let Some(id) = asked.get("x-ms-client-request-id") {
            response = response.header("x-ms-client-request-id", id);
        }
        if status == 401 {
            let (tenant, resource) = (&self.tenant, self.audience);
            let challenge = format!(
                r#"Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="{resource}""#
            );
            response = response.header("WWW-Authenticate", challenge);
        }
        if body.is_null() {
            return response.body(Body::empty()).unwrap();
        }
        response
            .header("Content-Type", "application/json; charset=utf-8")
            .body(Body::from(body.to_string()))
            .unwrap()
    }
}

/// What the vendor's sign-in library looks up first.
fn discovery(base: &str, tenant: &str) -> Value {
    json!({
        "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
        "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
        "issuer": format!("{base}/{tenant}/v2.0"),
        "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map(HeaderValue::as_bytes)
        .and_then(|value| std::str::from_utf8(value).ok())
        .unwrap_or_default()
}
