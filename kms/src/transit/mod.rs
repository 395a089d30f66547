//! HashiCorp Vault and OpenBao Transit: `trait Kms` over the engine's HTTP API.
//!
//! The context is bound by derivation, because `rewrap` knows no associated data. Invariant: no call makes a root key: what
//! Transit would make while it encrypts is looked for first.

mod admin;
mod exchange;
mod identity;
mod permission;
mod verdict;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::config::Credential;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::auth::Tokens;
use crate::call::{CallCtx, EncCtx, Op};
use crate::config::{ConfigError, ProviderConfig};
use crate::connect::Options;
use crate::error::{ErrorKind, KmsError, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, HttpConfig};
use crate::key::{Caps, ContextScheme, KeyInfo, KeyRef, PlainKey, Unwrapped, VersionInfo, Wrapped};
use crate::service::Kms;
use exchange::{Exchange, Server, Site};
use identity::VaultIdentity;
use wire::{Blob, CryptReply, KeyBody, WrapBody};

/// The provider's name in errors, audit events and metrics.
pub(crate) const PROVIDER: &str = "transit";

/// How long the engine's word counts that a key is there, and derived or not. A sidecar looks at its key at least as often.
const KNOWN_FOR: Duration = Duration::from_secs(30);

/// A Transit engine, reached with one credential.
pub(crate) struct Transit {
    exchange: Exchange,
    caps: Caps,
    known: Mutex<HashMap<KeyRef, (Instant, ContextScheme)>>,
}

impl Transit {
    /// Checks the configuration; makes no call. With `secret`, the credential's file is not read.
    pub(crate) fn new(
        spec: &contract::config::Transit,
        config: &ProviderConfig,
        secret: Option<SecretString>,
        options: &Options,
    ) -> std::result::Result<Self, ConfigError> {
        let contract::config::Transit { endpoint, namespace, mount, key } = spec;
        let endpoint = Endpoint::parse("endpoint", endpoint, config.allow_loopback_http)?;
        check_path("mount", mount)?;
        check_name("key", key)?;
        if let Some(namespace) = namespace {
            check_path("namespace", namespace)?;
        }
        match &config.credential {
            Credential::AppRole { mount, role_id, .. } => {
                check_path("credential.mount", mount)?;
                check_text("credential.roleId", role_id)?;
            }
            Credential::Kubernetes { mount, role, .. } => {
                check_path("credential.mount", mount)?;
                check_text("credential.role", role)?;
            }
            _ => {}
        }
        let http = Http::new(HttpConfig::new(config, options, endpoint.is_https())?)?;
        let server = Arc::new(Server { http, endpoint, namespace: namespace.clone() });
        let identity = VaultIdentity::new(Arc::clone(&server), &config.credential, secret)?;
        let tokens = Arc::new(Tokens::new(Box::new(identity), options));
        let exchange = Exchange { server, tokens, mount: mount.clone() };
        Ok(Self { exchange, caps: caps(), known: Mutex::default() })
    }

    /// How the key binds a context, which never changes while the key is there. A key that is not there is not found: Transit
    /// would make it while it encrypts, where the policy allows that.
    async fn scheme(&self, key: &KeyRef, call: &CallCtx) -> Result<ContextScheme> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        match known {
            Some((at, scheme)) if at.elapsed() < KNOWN_FOR => Ok(scheme),
            _ => {
                self.look(&self.exchange.site(Op::Describe, Some(key), call)).await.map(|body| body.scheme())
            }
        }
    }

    async fn look(&self, site: &Site<'_>) -> Result<KeyBody> {
        let Some(key) = site.place.key else { return site.place.decode(Err(ErrorKind::Invalid)) };
        let looked = self.fetch(site, key).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &looked {
            Ok(body) => known.insert(key.clone(), (Instant::now(), body.scheme())),
            Err(_) => known.remove(key),
        };
        looked
    }

    async fn fetch(&self, site: &Site<'_>, key: &KeyRef) -> Result<KeyBody> {
        let body: KeyBody = site.get(&["keys", &key.0]).await?;
        site.place.decode(body.check().map(|()| body))
    }
}

fn caps() -> Caps {
    Caps {
        provider: PROVIDER,
        scheme: ContextScheme::Derived,
        native_generate: true,
        native_rewrap: true,
        rewrap_on_unwrap: false,
        version_in_reply: true,
        list_versions: true,
        per_version_state: true,
        min_rotate_interval: None,
    }
}

/// The name of a key: one segment of a path.
fn check_name(field: &'static str, value: &str) -> std::result::Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    let fits = (1..=128).contains(&value.len()) && value.bytes().all(allowed) && !value.starts_with('.');
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

/// The path of a mount or a namespace: names with slashes between them.
fn check_path(field: &'static str, value: &str) -> std::result::Result<(), ConfigError> {
    value.split('/').try_for_each(|segment| check_name(field, segment))
}

/// Text that the server alone understands.
fn check_text(field: &'static str, value: &str) -> std::result::Result<(), ConfigError> {
    let fits = (1..=512).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

/// Says which version it was that is refused alone.
fn of_version(mut error: KmsError, blob: &Blob<'_>) -> KmsError {
    if let ErrorKind::VersionUnavailable { version } = &mut error.kind {
        *version = Some(blob.version());
    }
    error
}

#[async_trait]
impl Kms for Transit {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let site = self.exchange.site(Op::Describe, Some(key), call);
        let body = self.look(&site).await?;
        Ok(body.info())
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let scheme = self.scheme(key, call).await?;
        let site = self.exchange.site(Op::Generate, Some(key), call);
        let path = ["datakey", "plaintext", &key.0];
        let reply: CryptReply = site.post(&path, &WrapBody::new(None, scheme, ctx)).await?;
        let plain = site.place.decode(reply.plain())?;
        Ok((plain, site.place.decode(reply.wrapped(scheme))?))
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let scheme = self.scheme(key, call).await?;
        let site = self.exchange.site(Op::Wrap, Some(key), call);
        let body = WrapBody::new(Some(plain), scheme, ctx);
        let reply: Result<CryptReply> = site.post(&["encrypt", &key.0], &body).await;
        if let Err(error) = &reply
            && matches!(error.kind, ErrorKind::Denied { .. })
        {
            // Encrypting takes the right to make a key, where the key is gone.
            self.look(&site).await?;
        }
        site.place.decode(reply?.wrapped(scheme))
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let site = self.exchange.site(Op::Unwrap, Some(key), call);
        let blob = site.place.decode(Blob::new(wrapped))?;
        let asked_at = Instant::now();
        let reply: Result<CryptReply> = site.post(&["decrypt", &key.0], &blob.body(ctx)).await;
        let reply = reply.map_err(|error| of_version(error, &blob))?;
        let key = site.place.decode(reply.plain())?;
        Ok(Unwrapped { key, used: Some(blob.version()), rewrapped: None, asked_at })
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Rewrap, Some(key), call);
        let blob = site.place.decode(Blob::new(wrapped))?;
        let reply: Result<CryptReply> = site.post(&["rewrap", &key.0], &blob.body(ctx)).await;
        let reply = reply.map_err(|error| of_version(error, &blob))?;
        site.place.decode(reply.wrapped(wrapped.scheme))
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let site = self.exchange.site(Op::Versions, Some(key), call);
        Ok(self.look(&site).await?.versions())
    }
}

#[cfg(test)]
mod tests;
