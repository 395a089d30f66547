//! One exchange with a vault: headers, token, and what follows from the answer.
//!
//! Invariant: a token is replaced at most once in an exchange; an address comes from the configuration, never from an answer.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PROVIDER;
use super::verdict::{self, Carried, Failed, Verdict};
use crate::auth::{Token, Tokens};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, Reply, json_body};
use crate::key::KeyRef;
use crate::place::Place;

/// Wrapped keys and keys are small; a page holds 25 versions.
const REPLY_LIMIT: usize = 64 * 1024;

/// The oldest version with all that is used (rotation and its policy came with 7.3), and one that every cloud has, sovereign ones
/// too; nothing that came later is needed. A version stays as it is, so that an answer means tomorrow what it means today.
pub(super) const API_VERSION: &str = "7.4";

/// The vault and the way to it.
pub(super) struct Exchange {
    pub(super) http: Arc<Http>,
    pub(super) endpoint: Endpoint,
    pub(super) tokens: Arc<Tokens>,
}

/// What is asked for.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    /// Besides the version of the API.
    pub(super) query: &'a [(String, String)],
    pub(super) body: Option<bytes::Bytes>,
    pub(super) carried: Carried,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: &[], body: None, carried: Carried::Other }
    }

    pub(super) fn with(method: Method, path: &'a [&'a str], body: &impl Serialize) -> Self {
        Self { method, body: Some(json_body(body)), ..Self::get(path) }
    }
}

/// One operation on one key.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) place: Place<'a>,
}

impl Exchange {
    pub(super) fn site<'a>(&'a self, op: Op, key: &'a KeyRef, call: &'a CallCtx) -> Site<'a> {
        Site { exchange: self, place: Place { provider: PROVIDER, op, key: Some(key), call } }
    }
}

impl Site<'_> {
    /// The key's name.
    pub(super) fn name(&self) -> &str {
        self.place.key.map(|key| key.0.as_str()).unwrap_or_default()
    }

    /// Asks for something, and reads what comes.
    pub(super) async fn read<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T> {
        let reply = self.ask(ask).await?;
        self.place.parse(&reply)
    }

    /// Asks and judges the answer; only success comes back.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Reply> {
        let (tokens, call, carried) = (&self.exchange.tokens, self.place.call, ask.carried);
        let token = tokens.get(call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(ask.clone(), &token).await?;
        match verdict::judge(carried, &reply) {
            Verdict::Success => return Ok(reply),
            Verdict::Failed(failed) => return Err(self.failed(failed, &reply)),
            Verdict::NewToken(_) => {}
        }
        // It ended, or is one of a time when the groups in it were others: a new one tells.
        let token = tokens.replace(Some(&token), call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(ask, &token).await?;
        match verdict::judge(carried, &reply) {
            Verdict::Success => Ok(reply),
            Verdict::Failed(failed) | Verdict::NewToken(failed) => Err(self.failed(failed, &reply)),
        }
    }

    /// Looks at something that the credential may well not be allowed to see, and that nothing hangs on.
    pub(super) async fn glimpse<T: DeserializeOwned>(&self, path: &[&str]) -> Option<T> {
        let token = self.exchange.tokens.get(self.place.call).await.ok()?;
        let reply = self.send(Ask::get(path), &token).await.ok()?;
        self.place.parse(&reply).ok()
    }

    fn failed(&self, Failed { kind, code }: Failed, reply: &Reply) -> crate::KmsError {
        self.place.failed(kind, Some(reply.status), code)
    }

    async fn send(&self, ask: Ask<'_>, token: &Token) -> Result<Reply> {
        let Ask { method, path, query, body, .. } = ask;
        let mut url = self.exchange.endpoint.join(path);
        url.query_pairs_mut().append_pair("api-version", API_VERSION).extend_pairs(query);
        let bearer = self.place.decode(header(token))?;
        let build = |client: &reqwest::Client| {
            let request = client
                .request(method, url)
                .header("Accept", "application/json")
                .header("Authorization", bearer)
                // The vault writes it into its diagnostic log.
                .header("x-ms-client-request-id", self.place.call.correlation_id.to_string());
            match body {
                Some(body) => request.header("Content-Type", "application/json").body(body),
                None => request,
            }
        };
        let sent = self.exchange.http.send(self.place.call, REPLY_LIMIT, build);
        sent.await.map_err(|kind| self.place.failed(kind, None, None))
    }
}

/// A header that no log shows.
fn header(token: &Token) -> std::result::Result<HeaderValue, ErrorKind> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.value.expose_secret()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| ErrorKind::CredentialUnreadable)?;
    value.set_sensitive(true);
    Ok(value)
}
