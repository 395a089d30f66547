//! Azure Key Vault and Managed HSM: `trait Kms` over their REST API.
//!
//! The vault binds no context and rewraps nothing: a rewrap is an unwrap and a wrap, with the data key in zeroized memory between.
//! The key's state is that of its current version, which is what a person sees and disables. Invariant: every wrap looks at the
//! key first, so that what is disabled wraps no more at once, whether or not the vault would still do it (it need not hide a public
//! key), and so that a version and its algorithm come from one answer.

mod address;
mod admin;
mod blob;
mod exchange;
mod identity;
mod rotation;
mod verdict;
mod versions;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::config::AzureKeyVault;
use reqwest::Method;
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
use blob::Blob;
use exchange::{Ask, Exchange, Site};
use identity::EntraIdentity;
use rotation::Policy;
use verdict::Carried;
use wire::{Current, DeletedBody, KeyBody, OperationReply, UnwrapBody, WrapBody};

/// The provider's name in errors, audit events and metrics.
pub(crate) const PROVIDER: &str = "azure";

/// How long it counts what the rotation policy is, or that it may not be seen. It changes once in a while; a key's state is asked
/// for twice a minute.
const POLICY_KNOWN_FOR: Duration = Duration::from_secs(45);

/// A rotation policy's interval and when it was looked at.
type KnownPolicies = HashMap<KeyRef, (Instant, Option<Duration>)>;

/// A vault, reached with one credential.
pub(crate) struct Azure {
    exchange: Exchange,
    caps: Caps,
    policies: Mutex<KnownPolicies>,
}

impl Azure {
    /// Checks the configuration; makes no call. With `secret`, the credential's file is not read.
    pub(crate) fn new(
        spec: &AzureKeyVault,
        config: &ProviderConfig,
        secret: Option<SecretString>,
        options: &Options,
    ) -> std::result::Result<Self, ConfigError> {
        let AzureKeyVault { vault, login_endpoint, key } = spec;
        let endpoint = Endpoint::parse("vault", vault, config.allow_loopback_http)?;
        let login = Endpoint::parse("loginEndpoint", login_endpoint, config.allow_loopback_http)?;
        let scope = address::scope(&endpoint, vault, config.allow_loopback_http)?;
        check_name("key", key)?;
        let https_only = endpoint.is_https() && login.is_https();
        let http = Arc::new(Http::new(HttpConfig::new(config, options, https_only)?)?);
        let identity = EntraIdentity::new(Arc::clone(&http), login, scope, &config.credential, secret)?;
        let tokens = Arc::new(Tokens::new(Box::new(identity), options));
        Ok(Self { exchange: Exchange { http, endpoint, tokens }, caps: caps(), policies: Mutex::default() })
    }

    fn policies(&self) -> std::sync::MutexGuard<'_, KnownPolicies> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vault's own rotation interval, where the credential may see it.
    async fn auto_rotation(&self, site: &Site<'_>, key: &KeyRef) -> Option<Duration> {
        let known = self.policies().get(key).copied();
        if let Some((_, interval)) = known.filter(|(at, _)| at.elapsed() < POLICY_KNOWN_FOR) {
            return interval;
        }
        let policy: Option<Policy> = site.glimpse(&["keys", &key.0, "rotationpolicy"]).await;
        let interval = policy.and_then(|policy| policy.interval());
        self.policies().insert(key.clone(), (Instant::now(), interval));
        interval
    }
}

impl Site<'_> {
    /// The key's current version. A key that is deleted and can be recovered is said so, where the credential may see that.
    async fn look(&self) -> Result<Current> {
        let name = self.name();
        match self.ask(Ask::get(&["keys", name])).await {
            Ok(reply) => {
                let body: KeyBody = self.place.parse(&reply)?;
                self.place.decode(body.current(name, reply.date))
            }
            Err(mut error) => {
                if error.kind == ErrorKind::KeyNotFound
                    && let Some(deleted) = self.glimpse::<DeletedBody>(&["deletedkeys", name]).await
                {
                    error.kind = deleted.state();
                }
                Err(error)
            }
        }
    }

    async fn wrap(&self, plain: &PlainKey) -> Result<Wrapped> {
        let (name, current) = (self.name(), self.look().await?);
        let algorithm = self.place.decode(current.wraps())?;
        let version = current.version.text();
        let path = ["keys", name, &version, "wrapkey"];
        let body = WrapBody::new(algorithm, plain);
        let reply: OperationReply = self.read(Ask::with(Method::POST, &path, &body)).await?;
        self.place.decode(reply.wrapped(name, current.version, algorithm))
    }

    async fn unwrap(&self, blob: &Blob<'_>) -> Result<PlainKey> {
        let (name, version) = (self.name(), blob.version.text());
        let path = ["keys", name, &version, "unwrapkey"];
        let ask = Ask { carried: Carried::Blob, ..Ask::with(Method::POST, &path, &UnwrapBody::new(blob)) };
        let reply: OperationReply = match self.read(ask).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.explained(error, blob).await),
        };
        self.place.decode(reply.plain(name, blob.version))
    }

    /// What the vault says of a version, in the light of what it says of the key.
    async fn explained(&self, mut error: KmsError, blob: &Blob<'_>) -> KmsError {
        match error.kind {
            // Versions do not go away one by one: a key that is there never had this one.
            ErrorKind::KeyNotFound => match self.look().await {
                Ok(_) => error.kind = ErrorKind::CiphertextInvalid,
                Err(other) => return other,
            },
            ErrorKind::KeyDisabled => {
                let others_serve = self
                    .look()
                    .await
                    .is_ok_and(|current| current.enabled() && current.version != blob.version);
                if others_serve {
                    error.kind = ErrorKind::VersionUnavailable { version: Some(blob.version.version()) };
                }
            }
            _ => {}
        }
        error
    }
}

fn caps() -> Caps {
    Caps {
        provider: PROVIDER,
        scheme: ContextScheme::None,
        native_generate: false,
        native_rewrap: false,
        rewrap_on_unwrap: false,
        version_in_reply: true,
        list_versions: true,
        per_version_state: true,
        min_rotate_interval: None,
    }
}

/// The name of a key: one segment of a path.
fn check_name(field: &'static str, value: &str) -> std::result::Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let fits = (1..=127).contains(&value.len()) && value.bytes().all(allowed);
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

#[async_trait]
impl Kms for Azure {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let site = self.exchange.site(Op::Describe, key, call);
        let current = site.look().await?;
        site.place.decode(current.algorithm())?;
        Ok(current.info(key, self.auto_rotation(&site, key).await))
    }

    async fn generate(&self, key: &KeyRef, _: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let site = self.exchange.site(Op::Generate, key, call);
        let plain = PlainKey::random().map_err(|_| ErrorKind::Config("no random numbers".into()));
        let plain = site.place.decode(plain)?;
        let wrapped = site.wrap(&plain).await?;
        Ok((plain, wrapped))
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, _: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        self.exchange.site(Op::Wrap, key, call).wrap(plain).await
    }

    async fn unwrap(&self, key: &KeyRef, wrapped: &Wrapped, _: &EncCtx, call: &CallCtx) -> Result<Unwrapped> {
        let site = self.exchange.site(Op::Unwrap, key, call);
        let blob = site.place.decode(Blob::of(wrapped))?;
        let asked_at = Instant::now();
        let plain = site.unwrap(&blob).await?;
        Ok(Unwrapped { key: plain, used: Some(blob.version.version()), rewrapped: None, asked_at })
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, _: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Rewrap, key, call);
        let blob = site.place.decode(Blob::of(wrapped))?;
        let plain = site.unwrap(&blob).await?;
        site.wrap(&plain).await
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let site = self.exchange.site(Op::Versions, key, call);
        let current = site.look().await?.version.version();
        let mut all = site.versions().await?;
        // Two of the same second are told apart by which is current.
        all.sort_by_key(|info| (info.version != current, std::cmp::Reverse(info.created_at)));
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
