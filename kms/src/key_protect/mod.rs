//! IBM Key Protect: `trait Kms` over its REST API, version 2.
//!
//! Source: IBM Cloud API docs, Key Protect; roles and states as in its product documentation. Invariant: one call of
//! the trait is one exchange, plus at most one token and one look at the key's state where the answer asks for it.

mod admin;
mod exchange;
mod iam;
mod permission;
mod verdict;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::auth::Tokens;
use crate::call::{CallCtx, EncCtx, Op};
use crate::config::{ConfigError, ProviderConfig};
use crate::connect::Options;
use crate::error::{ErrorKind, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, HttpConfig};
use crate::key::{Caps, ContextScheme, KeyInfo, KeyRef, PlainKey, Unwrapped, VersionInfo, Wrapped};
use crate::service::Kms;
use exchange::Exchange;
use iam::Iam;
use reqwest::Method;
use tokio::time::Instant;
use wire::{ActionReply, CiphertextBody, Collection, KeyBody, VersionBody, WrapBody};

/// The provider's name in errors, audit events and metrics.
pub(crate) const PROVIDER: &str = "keyProtect";

const VERSIONS_IN_PAGE: usize = 200;
/// More versions than any policy makes in a thousand years; an endless list ends here.
const MAX_PAGES: usize = 64;

/// A Key Protect instance, reached with one credential.
pub(crate) struct KeyProtect {
    exchange: Exchange,
    caps: Caps,
}

impl KeyProtect {
    /// Checks the configuration; makes no call. With `secret`, the credential's file is not read.
    pub(crate) fn new(
        spec: &contract::config::KeyProtect,
        config: &ProviderConfig,
        secret: Option<SecretString>,
        options: &Options,
    ) -> std::result::Result<Self, ConfigError> {
        let contract::config::KeyProtect { endpoint, iam_endpoint, instance, root_key, key_ring } = spec;
        let endpoint = Endpoint::parse("endpoint", endpoint, config.allow_loopback_http)?;
        let iam_endpoint = Endpoint::parse("iamEndpoint", iam_endpoint, config.allow_loopback_http)?;
        check_id("instance", instance)?;
        check_id("rootKey", root_key)?;
        if let Some(ring) = key_ring {
            check_id("keyRing", ring)?;
        }
        let https_only = endpoint.is_https() && iam_endpoint.is_https();
        let http = Arc::new(Http::new(HttpConfig::new(config, options, https_only)?)?);
        let iam = Iam::new(Arc::clone(&http), iam_endpoint, &config.credential, secret)?;
        let tokens = Arc::new(Tokens::new(Box::new(iam), options));
        let exchange =
            Exchange { http, tokens, endpoint, instance: instance.clone(), key_ring: key_ring.clone() };
        Ok(Self { exchange, caps: caps() })
    }
}

fn caps() -> Caps {
    Caps {
        provider: PROVIDER,
        scheme: ContextScheme::Aad,
        native_generate: true,
        native_rewrap: true,
        rewrap_on_unwrap: true,
        version_in_reply: true,
        list_versions: true,
        per_version_state: false,
        min_rotate_interval: Some(verdict::ROTATION_PAUSE),
    }
}

/// GUIDs, CRN-free ids, aliases and ring names: what can stand in a header and in a path.
fn check_id(field: &'static str, value: &str) -> std::result::Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=128).contains(&value.len()) && value.bytes().all(allowed) {
        Ok(())
    } else {
        Err(ConfigError::Field { field })
    }
}

#[async_trait]
impl Kms for KeyProtect {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let site = self.exchange.site(Op::Describe, Some(key), call);
        let body: Collection<KeyBody> = site.get(&["keys", &key.0, "metadata"], &[]).await?;
        site.decode(body.single().and_then(KeyBody::info))
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let site = self.exchange.site(Op::Generate, Some(key), call);
        let reply: ActionReply = site.act("wrap", wire::WRAP, &WrapBody::new(None, ctx)).await?;
        let plain = site.decode(reply.plain())?;
        Ok((plain, site.decode(reply.wrapped())?))
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Wrap, Some(key), call);
        let reply: ActionReply = site.act("wrap", wire::WRAP, &WrapBody::new(Some(plain), ctx)).await?;
        site.decode(reply.wrapped())
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let site = self.exchange.site(Op::Unwrap, Some(key), call);
        let body = site.decode(CiphertextBody::new(wrapped, ctx))?;
        let asked_at = Instant::now();
        let reply: ActionReply = site.act("unwrap", wire::UNWRAP, &body).await?;
        let key = site.decode(reply.plain())?;
        Ok(Unwrapped { key, used: reply.used(), rewrapped: reply.rewrapped_on_unwrap(), asked_at })
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Rewrap, Some(key), call);
        let body = site.decode(CiphertextBody::new(wrapped, ctx))?;
        let reply: ActionReply = site.act("rewrap", wire::REWRAP, &body).await?;
        site.decode(reply.rewrapped())
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let site = self.exchange.site(Op::Versions, Some(key), call);
        let mut versions = Vec::new();
        for _ in 0..MAX_PAGES {
            let (limit, offset) = (VERSIONS_IN_PAGE.to_string(), versions.len().to_string());
            let query = [("limit", limit.as_str()), ("offset", offset.as_str()), ("allKeyStates", "true")];
            let page: Collection<VersionBody> = site.get(&["keys", &key.0, "versions"], &query).await?;
            let len = page.resources.len();
            versions.extend(page.resources.into_iter().map(VersionInfo::from));
            if len < VERSIONS_IN_PAGE {
                return Ok(versions);
            }
        }
        site.decode(Err(ErrorKind::Integrity("it lists versions without end")))
    }
}

/// The verb of a call that changes something.
const POST: Method = Method::POST;

#[cfg(test)]
mod tests;
