//! One exchange with AWS KMS: the signed request, and what follows from the answer.
//!
//! Invariant: in an exchange access keys are replaced at most once, and the time is corrected at most once; what AWS refused for
//! one of these reasons it has not carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys::AccessKeys;
use super::sign::{self, Scope};
use super::verdict::{self, Judged, Verdict};
use super::wire::{KeyBody, KeyReply, OfKey};
use super::{PROVIDER, agent};
use crate::auth::{Token, Tokens};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, Outage, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, Reply, json_body};
use crate::key::KeyRef;
use crate::place::Place;

/// A key is small; a page of a hundred versions is not.
const ACTION_LIMIT: usize = 32 * 1024;
const LIST_LIMIT: usize = 256 * 1024;
const JSON: &str = "application/x-amz-json-1.1";

/// The service and the way to it.
pub(super) struct Exchange {
    pub(super) http: Arc<Http>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) endpoint: Endpoint,
    pub(super) region: String,
    pub(super) clock: Clock,
}

/// The service's time, as far as it had to be told. AWS refuses signatures that are more than five minutes away from it.
#[derive(Default)]
pub(super) struct Clock {
    ahead_seconds: AtomicI64,
}

impl Clock {
    fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead_seconds.load(Ordering::Relaxed));
        let here = Timestamp::now();
        here.checked_add(ahead).unwrap_or(here)
    }

    /// Goes by the time of a refusal from now on; `false` where it tells none.
    fn follow(&self, reply: &Reply) -> bool {
        let Some(there) = reply.date else { return false };
        self.ahead_seconds.store(there.duration_since(Timestamp::now()).as_secs(), Ordering::Relaxed);
        true
    }
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
    /// Has something done that answers with a body.
    pub(super) async fn act<T: DeserializeOwned>(&self, action: &str, body: &impl Serialize) -> Result<T> {
        let reply = self.ask(action, json_body(body)).await?;
        self.place.parse(&reply)
    }

    /// Asks and judges the answer; only success comes back.
    pub(super) async fn ask(&self, action: &str, body: bytes::Bytes) -> Result<Reply> {
        let (tokens, call) = (&self.exchange.tokens, self.place.call);
        let mut token = tokens.get(call).await.map_err(|error| self.place.concerning(error))?;
        let (mut replaced, mut corrected) = (false, false);
        loop {
            let reply = self.send(action, &body, &token).await?;
            let Judged { verdict, code } = verdict::judge(&reply);
            let kind = match verdict {
                Verdict::Success => return Ok(reply),
                Verdict::Clock if !corrected && self.exchange.clock.follow(&reply) => {
                    corrected = true;
                    continue;
                }
                Verdict::Token(_) if !replaced => {
                    replaced = true;
                    let another = tokens.replace(Some(&token), call).await;
                    token = another.map_err(|error| self.place.concerning(error))?;
                    continue;
                }
                Verdict::KeyState => self.state_error(&token).await?,
                Verdict::Clock => ErrorKind::Integrity("its time cannot be followed"),
                Verdict::Token(kind) | Verdict::Failed(kind) => kind,
            };
            return Err(self.place.failed(kind, Some(reply.status), code));
        }
    }

    /// Asks once, for something that is good to know: a missing permission costs no other access keys.
    pub(super) async fn ask_once<T: DeserializeOwned>(
        &self,
        action: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let tokens = &self.exchange.tokens;
        let token = tokens.get(self.place.call).await.map_err(|error| self.place.concerning(error))?;
        self.send_once(action, body, &token).await
    }

    async fn send_once<T: DeserializeOwned>(
        &self,
        action: &str,
        body: &impl Serialize,
        token: &Token,
    ) -> Result<T> {
        let reply = self.send(action, &json_body(body), token).await?;
        let Judged { verdict, code } = verdict::judge(&reply);
        let kind = match verdict {
            Verdict::Success => return self.place.parse(&reply),
            Verdict::Token(kind) | Verdict::Failed(kind) => kind,
            Verdict::Clock | Verdict::KeyState => changing(),
        };
        Err(self.place.failed(kind, Some(reply.status), code))
    }

    /// The key's state forbade the operation; which state it is, only the metadata say.
    async fn state_error(&self, token: &Token) -> Result<ErrorKind> {
        let Some(key) = self.place.key else { return Ok(ErrorKind::Invalid) };
        let KeyReply { key_metadata }: KeyReply =
            self.send_once("DescribeKey", &OfKey { key_id: &key.0 }, token).await?;
        Ok(refusal(&key_metadata))
    }

    async fn send(&self, action: &str, body: &bytes::Bytes, token: &Token) -> Result<Reply> {
        let Exchange { http, endpoint, region, clock, tokens: _ } = self.exchange;
        let unreadable = || self.place.failed(ErrorKind::CredentialUnreadable, None, None);
        let keys = AccessKeys::of_token(&token.value).ok_or_else(unreadable)?;
        let url = endpoint.join(&[]);
        let (host, stamp) = (authority(&url), sign::stamp(clock.now()));
        let target = format!("TrentService.{action}");
        let mut headers =
            vec![("content-type", JSON), ("host", host.as_str()), ("x-amz-date", stamp.as_str())];
        if let Some(session) = &keys.session {
            headers.push(("x-amz-security-token", session));
        }
        headers.push(("x-amz-target", target.as_str()));
        let scope = Scope { region, service: "kms" };
        let signed = sign::authorization(&keys, scope, &stamp, &headers, body);
        let signed = concealed(&signed).ok_or_else(unreadable)?;
        let session = match &keys.session {
            Some(token) => Some(concealed(token).ok_or_else(unreadable)?),
            None => None,
        };
        let limit = if action.starts_with("List") { LIST_LIMIT } else { ACTION_LIMIT };
        let sent = http.send(self.place.call, limit, |client| {
            let mut request = client
                .post(url)
                .header("Content-Type", JSON)
                .header("X-Amz-Date", &stamp)
                .header("X-Amz-Target", &target)
                .header("Authorization", signed)
                .header("User-Agent", agent(self.place.call));
            if let Some(session) = session {
                request = request.header("X-Amz-Security-Token", session);
            }
            request.body(body.clone())
        });
        sent.await.map_err(|kind| self.place.failed(kind, None, None))
    }
}

/// A header that no log shows.
fn concealed(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What stands in the header `Host`.
fn authority(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What the state of a key makes of an operation that it does not allow.
fn refusal(key: &KeyBody) -> ErrorKind {
    match key.key_state.as_str() {
        // Its owner took the material away or let it expire, and can import it again.
        "Disabled" | "PendingImport" => ErrorKind::KeyDisabled,
        "PendingDeletion" | "PendingReplicaDeletion" => {
            ErrorKind::KeyPendingDeletion { until: key.deleted_at() }
        }
        _ => changing(),
    }
}

/// The state changed between the two answers, or will soon.
fn changing() -> ErrorKind {
    ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None }
}
