//! Google Cloud KMS: `trait Kms` over its REST API, version 1.
//!
//! Source: the REST reference of Cloud KMS. The service makes no data keys and rewraps nothing: keys are made here, and a rewrap is an
//! unwrap and a wrap. Invariant: what crosses the wire is covered by checksums in both directions, and a plaintext key that passes
//! through here is zeroized.

mod admin;
mod exchange;
mod identity;
mod key_file;
mod name;
mod refusal;
mod verdict;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use contract::config::GoogleKms;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::auth::Tokens;
use crate::call::{CallCtx, EncCtx, Op};
use crate::config::{ConfigError, ProviderConfig};
use crate::connect::Options;
use crate::error::{ErrorKind, Result};
use crate::http::endpoint::Endpoint;
use crate::http::{Http, HttpConfig};
use crate::key::{
    Caps, ContextScheme, KeyInfo, KeyRef, KeyVersion, PlainKey, Unwrapped, VersionInfo, Wrapped,
};
use crate::service::Kms;
use exchange::{Exchange, Site};
use identity::GoogleIdentity;
use wire::{DecryptBody, DecryptReply, EncryptBody, EncryptReply, VersionBody, VersionPage};

/// The provider's name in errors, audit events and metrics.
pub(crate) const PROVIDER: &str = "google";

const VERSIONS_IN_PAGE: &str = "100";
/// A rotation each day for seventeen years; an endless list ends here.
const MAX_PAGES: usize = 64;

/// A key of Cloud KMS, reached with one credential.
pub(crate) struct Google {
    exchange: Exchange,
    caps: Caps,
    /// The ring of the configured key, where new keys are made.
    ring: String,
    /// The primary version of each key, as the service said it last.
    primaries: Mutex<HashMap<KeyRef, KeyVersion>>,
}

impl Google {
    /// Checks the configuration; makes no call. With `secret`, the credential's file is not read.
    pub(crate) fn new(
        spec: &GoogleKms,
        config: &ProviderConfig,
        secret: Option<SecretString>,
        options: &Options,
    ) -> std::result::Result<Self, ConfigError> {
        let endpoint = Endpoint::parse("endpoint", spec.endpoint(), config.allow_loopback_http)?;
        name::check("key", &spec.key)?;
        let ring = name::ring(&spec.key).ok_or(ConfigError::Field { field: "key" })?.to_owned();
        let way = identity::Way::new(spec, &config.credential, config.allow_loopback_http)?;
        let https_only = endpoint.is_https() && way.is_https();
        let http = Arc::new(Http::new(HttpConfig::new(config, options, https_only)?)?);
        let identity = GoogleIdentity::new(Arc::clone(&http), way, config.credential.path(), secret);
        let tokens = Arc::new(Tokens::new(Box::new(identity), options));
        let exchange = Exchange { http, endpoint, tokens };
        Ok(Self { exchange, caps: caps(), ring, primaries: Mutex::default() })
    }

    async fn encrypt(
        &self,
        site: &Site<'_>,
        key: &KeyRef,
        plain: &PlainKey,
        ctx: &EncCtx,
    ) -> Result<Wrapped> {
        let reply: EncryptReply = match site.crypt(key, "encrypt", &EncryptBody::new(plain, ctx)).await {
            Ok(reply) => reply,
            Err(failure) => return Err(refusal::of_wrap(site, key, failure).await),
        };
        let wrapped = site.place.decode(reply.wrapped(key))?;
        self.note_primary(key, wrapped.version.as_ref());
        Ok(wrapped)
    }

    async fn decrypt(
        &self,
        site: &Site<'_>,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
    ) -> Result<(PlainKey, bool)> {
        let body = site.place.decode(DecryptBody::new(wrapped, ctx))?;
        let reply: DecryptReply = match site.crypt(key, "decrypt", &body).await {
            Ok(reply) => reply,
            Err(failure) => {
                return Err(refusal::of_unwrap(site, key, recorded(wrapped), failure).await);
            }
        };
        Ok((site.place.decode(reply.plain())?, reply.used_primary))
    }

    /// The version that unwrapped. The service says only whether it was the primary one; which version wrapped was said when it
    /// did, and stands with the wrapped key. Where the two do not go together, it is unknown.
    async fn used(
        &self,
        site: &Site<'_>,
        key: &KeyRef,
        wrapped: &Wrapped,
        primary: bool,
    ) -> Option<KeyVersion> {
        let recorded = recorded(wrapped)?;
        let agrees = |known: Option<KeyVersion>| known.is_none_or(|known| (known == *recorded) == primary);
        if agrees(self.known_primary(key)) {
            return Some(recorded.clone());
        }
        // There was a rotation since, or somebody wrote another version into a file.
        let current = site.look_at_key(key).await.ok()?.current();
        self.note_primary(key, current.as_ref());
        agrees(current).then(|| recorded.clone())
    }

    fn known_primary(&self, key: &KeyRef) -> Option<KeyVersion> {
        self.primaries.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn note_primary(&self, key: &KeyRef, primary: Option<&KeyVersion>) {
        if let Some(primary) = primary {
            let mut primaries = self.primaries.lock().unwrap_or_else(PoisonError::into_inner);
            primaries.insert(key.clone(), primary.clone());
        }
    }

    async fn all_versions(&self, site: &Site<'_>, key: &KeyRef) -> Result<Vec<VersionBody>> {
        let (mut versions, mut token) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let query = [("pageSize", VERSIONS_IN_PAGE), ("pageToken", token.as_str())];
            let query = if token.is_empty() { &query[..1] } else { &query[..] };
            let page: VersionPage = site.get(&format!("{}/cryptoKeyVersions", key.0), query).await?;
            versions.extend(page.crypto_key_versions);
            if page.next_page_token.is_empty() {
                return Ok(versions);
            }
            token = page.next_page_token;
        }
        site.place.decode(Err(ErrorKind::Integrity("it lists versions without end")))
    }
}

/// The version that stands with a wrapped key, if it looks like one.
fn recorded(wrapped: &Wrapped) -> Option<&KeyVersion> {
    wrapped.version.as_ref().filter(|version| name::is_version(version))
}

fn caps() -> Caps {
    Caps {
        provider: PROVIDER,
        scheme: ContextScheme::Aad,
        native_generate: false,
        native_rewrap: false,
        rewrap_on_unwrap: false,
        version_in_reply: true,
        list_versions: true,
        per_version_state: true,
        min_rotate_interval: None,
    }
}

#[async_trait]
impl Kms for Google {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let site = self.exchange.site(Op::Describe, Some(key), call);
        let info = site.place.decode(site.key(key).await?.info())?;
        self.note_primary(key, info.current.as_ref());
        Ok(info)
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let site = self.exchange.site(Op::Generate, Some(key), call);
        let plain = site.place.decode(
            PlainKey::random().map_err(|_| ErrorKind::Config("this machine gives no random numbers".into())),
        )?;
        let wrapped = self.encrypt(&site, key, &plain, ctx).await?;
        Ok((plain, wrapped))
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Wrap, Some(key), call);
        self.encrypt(&site, key, plain, ctx).await
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let site = self.exchange.site(Op::Unwrap, Some(key), call);
        let asked_at = Instant::now();
        let (plain, primary) = self.decrypt(&site, key, wrapped, ctx).await?;
        let used = self.used(&site, key, wrapped, primary).await;
        Ok(Unwrapped { key: plain, used, rewrapped: None, asked_at })
    }

    /// The key is in this process's memory for the time of one call, and zeroized then.
    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Rewrap, Some(key), call);
        let (plain, _) = self.decrypt(&site, key, wrapped, ctx).await?;
        self.encrypt(&site, key, &plain, ctx).await
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let site = self.exchange.site(Op::Versions, Some(key), call);
        let current = site.key(key).await?.current();
        self.note_primary(key, current.as_ref());
        let all = self.all_versions(&site, key).await?;
        site.place.decode(wire::listed(all, current.as_ref()))
    }
}

#[cfg(test)]
mod tests;
