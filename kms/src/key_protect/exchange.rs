//! One exchange with Key Protect: headers, token, and what follows from the answer.
//!
//! Invariant: a token is replaced at most once in an exchange, and each failure knows its operation, key, status,
//! code and correlation id.

use std::sync::Arc;

use reqwest::Method;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::verdict::{self, Verdict};
use super::wire::{Collection, KeyBody};
use super::{POST, PROVIDER};
use crate::auth::{Token, Tokens};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, Outage, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, Reply, json_body};
use crate::key::{KeyRef, KeyState};
use crate::place::Place;

/// Wrapped keys are small; a page of versions holds 200 of about 100 bytes.
const ACTION_LIMIT: usize = 32 * 1024;
const LIST_LIMIT: usize = 256 * 1024;

/// The instance and the way to it.
pub(super) struct Exchange {
    pub(super) http: Arc<Http>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) endpoint: Endpoint,
    pub(super) instance: String,
    pub(super) key_ring: Option<String>,
}

/// One operation on one key.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    exchange: &'a Exchange,
    pub(super) place: Place<'a>,
}

/// A request without its token.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Option<bytes::Bytes>,
}

impl Exchange {
    pub(super) fn site<'a>(&'a self, op: Op, key: Option<&'a KeyRef>, call: &'a CallCtx) -> Site<'a> {
        Site { exchange: self, place: Place { provider: PROVIDER, op, key, call } }
    }
}

impl Site<'_> {
    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let ask = Ask { method: Method::GET, path, query, content_type: None, body: None };
        let reply = self.ask(&ask).await?;
        self.parse(&reply)
    }

    /// An action on the key that answers with a body.
    pub(super) async fn act<T: DeserializeOwned>(
        &self,
        action: &str,
        content_type: &'static str,
        body: &impl Serialize,
    ) -> Result<T> {
        let path = ["keys", self.place.key.map_or("", |key| key.0.as_str()), "actions", action];
        let body = Some(json_body(body));
        let ask = Ask { method: POST, path: &path, query: &[], content_type: Some(content_type), body };
        let reply = self.ask(&ask).await?;
        self.parse(&reply)
    }

    /// Asks and judges the answer; only success comes back.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Reply> {
        let (reply, judged) = self.judged(ask).await?;
        self.conclude(reply, judged).await
    }

    /// The answer to a request, with another token where the first one is not accepted, and what it means.
    pub(super) async fn judged(&self, ask: &Ask<'_>) -> Result<(Reply, verdict::Judged)> {
        let token =
            self.exchange.tokens.get(self.place.call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(ask, &token).await?;
        let judged = verdict::judge(self.place.op, &reply);
        if judged.verdict != Verdict::Token {
            return Ok((reply, judged));
        }
        let token = self
            .exchange
            .tokens
            .replace(Some(&token), self.place.call)
            .await
            .map_err(|error| self.place.concerning(error))?;
        let reply = self.send(ask, &token).await?;
        let judged = verdict::judge(self.place.op, &reply);
        Ok((reply, judged))
    }

    /// What the last answer means: no other token is tried.
    async fn conclude(&self, reply: Reply, judged: verdict::Judged) -> Result<Reply> {
        let status = Some(reply.status);
        match judged.verdict {
            Verdict::Success => Ok(reply),
            Verdict::Failed(kind) => Err(self.place.failed(kind, status, judged.code)),
            Verdict::KeyState => {
                let kind = self.state_error().await?;
                Err(self.place.failed(kind, status, judged.code))
            }
            Verdict::Token => Err(self.place.failed(verdict::denied_for_good(&reply), status, judged.code)),
        }
    }

    /// The key's state forbade the operation; which state it is, only the metadata say.
    async fn state_error(&self) -> Result<ErrorKind> {
        let key = self.place.key.map_or("", |key| key.0.as_str());
        let path = ["keys", key, "metadata"];
        let ask = Ask { method: Method::GET, path: &path, query: &[], content_type: None, body: None };
        let token =
            self.exchange.tokens.get(self.place.call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(&ask, &token).await?;
        let judged = verdict::judge(self.place.op, &reply);
        match judged.verdict {
            Verdict::Success => {}
            Verdict::Failed(kind) => return Err(self.place.failed(kind, Some(reply.status), judged.code)),
            Verdict::Token | Verdict::KeyState => return Ok(changing()),
        }
        let body: Collection<KeyBody> = self.parse(&reply)?;
        let body = self.decode(body.single())?;
        let until = body.recoverable_until();
        Ok(match self.decode(body.state())? {
            KeyState::Enabled => changing(),
            KeyState::Disabled => ErrorKind::KeyDisabled,
            KeyState::Expired => ErrorKind::KeyExpired,
            KeyState::PendingDeletion => ErrorKind::KeyPendingDeletion { until },
            KeyState::Destroyed => ErrorKind::KeyDestroyed { recoverable_until: until },
            KeyState::PendingImport => ErrorKind::Invalid,
        })
    }

    async fn send(&self, ask: &Ask<'_>, token: &Token) -> Result<Reply> {
        let Exchange { http, endpoint, instance, key_ring, tokens: _ } = self.exchange;
        let segments: Vec<&str> = ["api", "v2"].iter().chain(ask.path).copied().collect();
        let url = endpoint.join(&segments);
        let limit = if self.place.op == Op::Versions { LIST_LIMIT } else { ACTION_LIMIT };
        let sent = http.send(self.place.call, limit, |client| {
            let mut request = client
                .request(ask.method.clone(), url)
                .bearer_auth(token.value.expose_secret())
                .header("Accept", "application/json")
                .header("Bluemix-Instance", instance)
                .header("Correlation-Id", self.place.call.correlation_id.to_string());
            if let Some(ring) = key_ring {
                request = request.header("X-Kms-Key-Ring", ring);
            }
            if !ask.query.is_empty() {
                request = request.query(ask.query);
            }
            if let Some(kind) = ask.content_type {
                request = request.header("Content-Type", kind);
            }
            match &ask.body {
                Some(body) => request.body(body.clone()),
                None => request,
            }
        });
        sent.await.map_err(|kind| self.place.failed(kind, None, None))
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T> {
        self.place.parse(reply)
    }

    /// Gives a failure to decode its place.
    pub(super) fn decode<T>(&self, decoded: std::result::Result<T, ErrorKind>) -> Result<T> {
        self.place.decode(decoded)
    }
}

/// The state changed between the two answers.
fn changing() -> ErrorKind {
    ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None }
}
