//! Who we are to Vault or OpenBao: a token that lies in a file, an AppRole, or a service account token.
//!
//! Invariant: the server rejects a credential only in its own words; everything else is an outage. Tokens are prolonged while
//! the server gives that, so that logins with a limited number of uses last.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::config::Credential;
use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::PROVIDER;
use super::exchange::Server;
use super::verdict;
use super::wire::Data;
use crate::auth::{Identity, Issued, LONGEST_LIFE, LoginError, ReadSecret, SecretSource, Token};
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::error::ErrorKind;
use crate::http::watched::Stamp;
use crate::http::{Reply, json_body};
use crate::secret_text::SecretText;

/// A credential and the server that knows it.
pub(super) struct VaultIdentity {
    server: Arc<Server>,
    method: AuthMethod,
    secret: SecretSource,
}

enum AuthMethod {
    Token,
    AppRole { mount: String, role_id: String },
    Kubernetes { mount: String, role: String },
}

#[derive(Serialize)]
#[serde(untagged)]
enum LoginBody<'a> {
    AppRole { role_id: &'a str, secret_id: &'a str },
    Kubernetes { role: &'a str, jwt: &'a str },
}

#[derive(Deserialize)]
struct LoginReply {
    auth: AuthBody,
}

#[derive(Deserialize)]
struct AuthBody {
    client_token: SecretText,
    lease_duration: u64,
    renewable: bool,
}

/// What a token's holder may know of it.
#[derive(Deserialize)]
struct OwnToken {
    ttl: u64,
    renewable: bool,
}

impl VaultIdentity {
    /// With `given`, the configured file is not touched.
    pub(super) fn new(
        server: Arc<Server>,
        credential: &Credential,
        given: Option<SecretString>,
    ) -> Result<Self, ConfigError> {
        let method = match credential {
            Credential::TokenFile { .. } => AuthMethod::Token,
            Credential::AppRole { mount, role_id, .. } => {
                AuthMethod::AppRole { mount: mount.clone(), role_id: role_id.clone() }
            }
            Credential::Kubernetes { mount, role, .. } => {
                AuthMethod::Kubernetes { mount: mount.clone(), role: role.clone() }
            }
            _ => return Err(ConfigError::Credential),
        };
        Ok(Self { server, method, secret: SecretSource::new(credential.path(), given) })
    }

    /// What the server says of a token that somebody else made.
    async fn look_up(&self, token: &str, call: &CallCtx) -> Result<Issued, LoginError> {
        let token = SecretString::from(token);
        let path = ["auth", "token", "lookup-self"];
        let reply = self.server.send(Method::GET, &path, Some(&token), None, call).await?;
        let Data { data: OwnToken { ttl, renewable } } = parse(&reply)?;
        issued(token, ttl, renewable, &reply)
    }

    async fn exchange(
        &self,
        mount: &str,
        body: &LoginBody<'_>,
        call: &CallCtx,
    ) -> Result<Issued, LoginError> {
        let path: Vec<&str> = std::iter::once("auth").chain(mount.split('/')).chain(["login"]).collect();
        let reply = self.server.send(Method::POST, &path, None, Some(json_body(body)), call).await?;
        granted(&reply)
    }
}

#[async_trait]
impl Identity for VaultIdentity {
    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        self.secret.read().await
    }

    /// A token or a secret id that was replaced may have been replaced because it leaked. A service account token is replaced
    /// every hour, and what it was exchanged for stays valid.
    async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        !matches!(self.method, AuthMethod::Kubernetes { .. }) && self.secret.changed_since(seen).await
    }

    async fn log_in(&self, secret: &ReadSecret, call: &CallCtx) -> Result<Issued, LoginError> {
        let text = secret.text.as_str();
        match &self.method {
            AuthMethod::Token => self.look_up(text, call).await,
            AuthMethod::AppRole { mount, role_id } => {
                self.exchange(mount, &LoginBody::AppRole { role_id, secret_id: text }, call).await
            }
            AuthMethod::Kubernetes { mount, role } => {
                self.exchange(mount, &LoginBody::Kubernetes { role, jwt: text }, call).await
            }
        }
    }

    /// A token whose greatest age is near gets less than it had: then a new one is better.
    async fn prolong(&self, token: &Token, call: &CallCtx) -> Option<Issued> {
        let path = ["auth", "token", "renew-self"];
        let body = Some(bytes::Bytes::from_static(b"{}"));
        let reply = self.server.send(Method::POST, &path, Some(&token.value), body, call).await.ok()?;
        granted(&reply).ok().filter(|issued| issued.lifetime >= token.lifetime / 2)
    }
}

fn granted(reply: &Reply) -> Result<Issued, LoginError> {
    let LoginReply { auth } = parse(reply)?;
    issued(auth.client_token.into(), auth.lease_duration, auth.renewable, reply)
}

fn parse<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, LoginError> {
    let failed = |kind| LoginError { kind, status: Some(reply.status), code: None };
    if reply.status != 200 {
        return Err(failed(verdict::judge_login(reply)));
    }
    if !reply.is_json() {
        return Err(failed(ErrorKind::Integrity("it is not json")));
    }
    serde_json::from_slice(&reply.body).map_err(|_| failed(ErrorKind::Integrity("it lacks the token")))
}

/// Without a time to live, a token lives until it is revoked.
fn issued(token: SecretString, ttl: u64, renewable: bool, reply: &Reply) -> Result<Issued, LoginError> {
    let lifetime = if ttl == 0 { LONGEST_LIFE } else { Duration::from_secs(ttl) };
    let unusable = ErrorKind::Integrity("its token cannot be used");
    Issued::new(token, lifetime, renewable).ok_or(LoginError {
        kind: unusable,
        status: Some(reply.status),
        code: None,
    })
}
