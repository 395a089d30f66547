//! One exchange with Cloud KMS: address, token, and what follows from the answer.
//!
//! Invariant: a token is replaced at most once in an exchange.

use std::sync::Arc;

use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PROVIDER;
use super::name;
use super::verdict::{self, Judged, Verdict, Violation};
use super::wire::{KeyBody, VersionBody};
use crate::auth::{Token, Tokens};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, Reply, json_body};
use crate::key::{KeyRef, KeyVersion};
use crate::place::Place;

/// A page of a hundred versions is the largest answer.
const REPLY_LIMIT: usize = 256 * 1024;

/// The service and the way to it.
pub(super) struct Exchange {
    pub(super) http: Arc<Http>,
    pub(super) endpoint: Endpoint,
    pub(super) tokens: Arc<Tokens>,
}

/// One operation on one key.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    exchange: &'a Exchange,
    pub(super) place: Place<'a>,
}

/// Why there is no answer to use.
pub(super) enum Failure {
    /// As it stands.
    Plain(KmsError),
    /// A version is in the way; the error is what holds if nobody can say more.
    Precondition(Violation, KmsError),
}

impl Failure {
    /// Where nobody looks any further.
    pub(super) fn plain(self) -> KmsError {
        let (Self::Plain(error) | Self::Precondition(_, error)) = self;
        error
    }
}

impl From<KmsError> for Failure {
    fn from(error: KmsError) -> Self {
        Self::Plain(error)
    }
}

/// A request, which may have to be sent twice.
struct Request {
    method: Method,
    url: Url,
    body: Option<bytes::Bytes>,
    opens: bool,
}

impl Exchange {
    pub(super) fn site<'a>(&'a self, op: Op, key: Option<&'a KeyRef>, call: &'a CallCtx) -> Site<'a> {
        Site { exchange: self, place: Place { provider: PROVIDER, op, key, call } }
    }
}

impl Site<'_> {
    /// Wraps or unwraps: `verb` is `encrypt` or `decrypt`.
    pub(super) async fn crypt<T: DeserializeOwned>(
        &self,
        key: &KeyRef,
        verb: &str,
        body: &impl Serialize,
    ) -> std::result::Result<T, Failure> {
        let url = self.url(&format!("{}:{verb}", key.0), &[]);
        let body = Some(json_body(body));
        let request = Request { method: Method::POST, url, body, opens: verb == "decrypt" };
        let reply = self.ask(&request).await?;
        Ok(self.place.parse(&reply)?)
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, name: &str, query: &[(&str, &str)]) -> Result<T> {
        let request = Request { method: Method::GET, url: self.url(name, query), body: None, opens: false };
        let reply = self.ask(&request).await.map_err(Failure::plain)?;
        self.place.parse(&reply)
    }

    /// Changes something.
    pub(super) async fn change(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<Reply> {
        let body = Some(json_body(body));
        let request = Request { method, url: self.url(name, query), body, opens: false };
        self.ask(&request).await.map_err(Failure::plain)
    }

    /// The key as it is now.
    pub(super) async fn key(&self, key: &KeyRef) -> Result<KeyBody> {
        let body: KeyBody = self.get(&key.0, &[]).await?;
        self.place.decode(body.check(key).map(|()| body))
    }

    /// The same for an answer that needs it to be understood: a token that was not good enough a moment ago is not replaced again.
    pub(super) async fn look_at_key(&self, key: &KeyRef) -> Result<KeyBody> {
        let body: KeyBody = self.look(&key.0).await?;
        self.place.decode(body.check(key).map(|()| body))
    }

    /// A version, in the same way.
    pub(super) async fn look_at_version(&self, key: &KeyRef, version: &KeyVersion) -> Result<VersionBody> {
        self.look(&name::of_version(key, version)).await
    }

    async fn look<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let (tokens, call) = (&self.exchange.tokens, self.place.call);
        let token = tokens.get(call).await.map_err(|error| self.place.concerning(error))?;
        let request = Request { method: Method::GET, url: self.url(name, &[]), body: None, opens: false };
        let reply = self.send(&request, &token).await?;
        let judged = verdict::judge(false, &reply);
        match judged.verdict {
            Verdict::Success => self.place.parse(&reply),
            Verdict::Token(doubt) => Err(self.failed(doubt.settled(), &reply, judged.code)),
            Verdict::Precondition(_) => Err(self.failed(ErrorKind::Invalid, &reply, judged.code)),
            Verdict::Failed(kind) => Err(self.failed(kind, &reply, judged.code)),
        }
    }

    /// Asks and judges the answer; only success comes back.
    async fn ask(&self, request: &Request) -> std::result::Result<Reply, Failure> {
        let (tokens, call) = (&self.exchange.tokens, self.place.call);
        let token = tokens.get(call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(request, &token).await?;
        let judged = verdict::judge(request.opens, &reply);
        if !matches!(judged.verdict, Verdict::Token(_)) {
            return self.settle(judged, reply);
        }
        // What a token may do can be fixed when it is made: a new one tells an old token from a missing role.
        let token = tokens.replace(Some(&token), call).await.map_err(|error| self.place.concerning(error))?;
        let reply = self.send(request, &token).await?;
        self.settle(verdict::judge(request.opens, &reply), reply)
    }

    fn settle(&self, judged: Judged, reply: Reply) -> std::result::Result<Reply, Failure> {
        let Judged { verdict, code } = judged;
        match verdict {
            Verdict::Success => Ok(reply),
            Verdict::Token(doubt) => Err(self.failed(doubt.settled(), &reply, code).into()),
            Verdict::Failed(kind) => Err(self.failed(kind, &reply, code).into()),
            Verdict::Precondition(violation) => {
                Err(Failure::Precondition(violation, self.failed(ErrorKind::Invalid, &reply, code)))
            }
        }
    }

    async fn send(&self, request: &Request, token: &Token) -> Result<Reply> {
        let Request { method, url, body, .. } = request;
        let bearer = bearer(token).map_err(|kind| self.place.failed(kind, None, None))?;
        let build = |client: &reqwest::Client| {
            let request = client
                .request(method.clone(), url.clone())
                .header("Accept", "application/json")
                .header("Authorization", bearer)
                // The one header of a caller's own choice that Cloud Audit Logs keep.
                .header("X-Goog-Request-Reason", self.place.call.correlation_id.to_string());
            match body {
                Some(body) => request.header("Content-Type", "application/json").body(body.clone()),
                None => request,
            }
        };
        let sent = self.exchange.http.send(self.place.call, REPLY_LIMIT, build).await;
        sent.map_err(|kind| self.place.failed(kind, None, None))
    }

    fn failed(&self, kind: ErrorKind, reply: &Reply, code: Option<String>) -> KmsError {
        self.place.failed(kind, Some(reply.status), code)
    }

    fn url(&self, name: &str, query: &[(&str, &str)]) -> Url {
        let path: Vec<&str> = std::iter::once("v1").chain(name.split('/')).collect();
        let mut url = self.exchange.endpoint.join(&path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

/// A header that no log shows.
pub(super) fn bearer(token: &Token) -> std::result::Result<HeaderValue, ErrorKind> {
    sensitive(token.value.expose_secret())
}

/// The same of a token that is not kept.
pub(super) fn sensitive(token: &str) -> std::result::Result<HeaderValue, ErrorKind> {
    let text = zeroize::Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| ErrorKind::CredentialUnreadable)?;
    value.set_sensitive(true);
    Ok(value)
}
