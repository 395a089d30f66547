//! One exchange with a Transit engine: headers, token, and what follows from the answer.
//!
//! Invariant: a token is replaced at most once in an exchange.

use std::sync::Arc;

use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PROVIDER;
use super::verdict::{self, Verdict};
use super::wire::Data;
use crate::auth::{Token, Tokens};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, Reply, json_body};
use crate::key::KeyRef;
use crate::place::Place;

/// Wrapped keys are small; a key of ten thousand versions fits.
const REPLY_LIMIT: usize = 256 * 1024;

/// The server and the way to it.
pub(super) struct Server {
    pub(super) http: Http,
    pub(super) endpoint: Endpoint,
    pub(super) namespace: Option<String>,
}

impl Server {
    /// Asks for `path` below `/v1`, as whoever `token` is.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        token: Option<&SecretString>,
        body: Option<bytes::Bytes>,
        call: &CallCtx,
    ) -> std::result::Result<Reply, ErrorKind> {
        let url = self.endpoint.join(&[&["v1"], path].concat());
        let token = token.map(header).transpose()?;
        let build = |client: &reqwest::Client| -> RequestBuilder {
            let mut request = client
                .request(method, url)
                .header("Accept", "application/json")
                // Agents and proxies of the vendor may ask for it: a page in a browser cannot send it.
                .header("X-Vault-Request", "true")
                .header("X-Correlation-Id", call.correlation_id.to_string());
            if let Some(token) = token {
                request = request.header("X-Vault-Token", token);
            }
            if let Some(namespace) = &self.namespace {
                request = request.header("X-Vault-Namespace", namespace);
            }
            match body {
                Some(body) => request.header("Content-Type", "application/json").body(body),
                None => request,
            }
        };
        self.http.send(call, REPLY_LIMIT, build).await
    }
}

/// A header that no log shows.
fn header(token: &SecretString) -> std::result::Result<HeaderValue, ErrorKind> {
    let mut value =
        HeaderValue::from_str(token.expose_secret()).map_err(|_| ErrorKind::CredentialUnreadable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The engine.
pub(super) struct Exchange {
    pub(super) server: Arc<Server>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) mount: String,
}

/// One operation on one key.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    exchange: &'a Exchange,
    pub(super) place: Place<'a>,
}

impl Exchange {
    pub(super) fn site<'a>(&'a self, op: Op, key: Option<&'a KeyRef>, call: &'a CallCtx) -> Site<'a> {
        Site { exchange: self, place: Place { provider: PROVIDER, op, key, call } }
    }
}

impl Site<'_> {
    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        let reply = self.ask(Method::GET, path, None).await?;
        self.place.parse(&reply).map(|Data { data }| data)
    }

    /// Has something done that answers with data.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T> {
        let reply = self.ask(Method::POST, path, Some(json_body(body))).await?;
        self.place.parse(&reply).map(|Data { data }| data)
    }

    /// Has the server itself, not the engine, answer with data.
    pub(super) async fn post_to_server<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        let reply = self.ask_server(Method::POST, path, Some(json_body(body))).await?;
        self.place.parse(&reply).map(|Data { data }| data)
    }

    /// Asks the engine and judges the answer; only success comes back.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<bytes::Bytes>,
    ) -> Result<Reply> {
        let path: Vec<&str> = self.exchange.mount.split('/').chain(path.iter().copied()).collect();
        self.ask_server(method, &path, body).await
    }

    async fn ask_server(&self, method: Method, path: &[&str], body: Option<bytes::Bytes>) -> Result<Reply> {
        let (tokens, call) = (&self.exchange.tokens, self.place.call);
        let token = tokens.get(call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(method.clone(), path, body.clone(), &token).await?;
        match verdict::judge(self.place.op, &reply) {
            Verdict::Success => return Ok(reply),
            Verdict::Failed(kind) => return Err(self.place.failed(kind, Some(reply.status), None)),
            Verdict::Token => {}
        }
        // "permission denied" is what a token gets that ended, and one that may not: a new one tells which.
        let token = tokens.replace(Some(&token), call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(method, path, body, &token).await?;
        let kind = match verdict::judge(self.place.op, &reply) {
            Verdict::Success => return Ok(reply),
            Verdict::Failed(kind) => kind,
            Verdict::Token => ErrorKind::Denied { confirmed: false },
        };
        Err(self.place.failed(kind, Some(reply.status), None))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<bytes::Bytes>,
        token: &Token,
    ) -> Result<Reply> {
        let sent = self.exchange.server.send(method, path, Some(&token.value), body, self.place.call);
        sent.await.map_err(|kind| self.place.failed(kind, None, None))
    }
}
