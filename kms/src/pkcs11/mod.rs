//! Hardware security modules: `trait Kms` over PKCS#11, by the vendor's library in this process.
//!
//! A root key is a label, its versions are objects of a token. The context is bound as additional authenticated data. Invariant:
//! an outage of the token is neither a refusal nor a wrong blob, and no call holds up the runtime.

mod admin;
mod blob;
mod library;
mod login;
mod pool;
mod session;
mod token;
mod verdict;
mod version;
mod work;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use contract::config::Credential;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::call::{CallCtx, EncCtx, Op};
use crate::config::{ConfigError, ProviderConfig};
use crate::connect::Options;
use crate::error::{ErrorKind, Result};
use crate::key::{Caps, ContextScheme, KeyInfo, KeyRef, PlainKey, Unwrapped, VersionInfo, Wrapped};
use crate::place::Place;
use crate::service::Kms;
use blob::Blob;
use library::Module;
use login::Pin;
use pool::{Desk, Pool};
use token::{Access, Library, Outcome};

/// The provider's name in errors, audit events and metrics.
pub(crate) const PROVIDER: &str = "pkcs11";

/// A token's label has 32 bytes, padded with spaces.
const LONGEST_TOKEN: usize = 32;
const LONGEST_KEY: usize = 128;

/// A token, used as its user.
pub(crate) struct Pkcs11 {
    pool: Pool,
    caps: Caps,
}

impl Pkcs11 {
    /// Checks the configuration; loads nothing. With `secret`, the PIN's file is not read.
    pub(crate) fn new(
        spec: &contract::config::Pkcs11,
        config: &ProviderConfig,
        secret: Option<SecretString>,
        options: &Options,
    ) -> std::result::Result<Self, ConfigError> {
        let contract::config::Pkcs11 { module, token, key } = spec;
        let Credential::PinFile { path } = &config.credential else { return Err(ConfigError::Credential) };
        check_module(module)?;
        check_label("token", token, LONGEST_TOKEN)?;
        check_label("key", key, LONGEST_KEY)?;
        let pin = Pin::new(path, secret);
        Ok(Self::with(Module::of(Path::new(module)), token, pin, options))
    }

    fn with(library: Arc<dyn Library>, token: &str, pin: Pin, options: &Options) -> Self {
        Self { pool: Pool::new(library, token, pin, options), caps: caps() }
    }

    async fn run<T: Send + 'static>(
        &self,
        (op, key, call): (Op, &KeyRef, &CallCtx),
        access: Access,
        job: impl Fn(&mut Desk<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let place = Place { provider: PROVIDER, op, key: Some(key), call };
        self.pool.run(&place, access, job).await
    }
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

/// A path that says where it leads.
fn check_module(path: &str) -> std::result::Result<(), ConfigError> {
    let plain = path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    let fits = path.starts_with('/') && plain && path.len() <= 4096 && !path.contains('\0');
    if fits { Ok(()) } else { Err(ConfigError::Field { field: "module" }) }
}

/// Text that a token can hold and a log can show. Spaces at its end would be lost in a token's padding.
fn check_label(field: &'static str, label: &str, longest: usize) -> std::result::Result<(), ConfigError> {
    let shown = label.chars().all(|c| !c.is_control());
    let fits = (1..=longest).contains(&label.len()) && shown && label.trim() == label;
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

/// Wraps, and remembers that the token gives back what it is given.
fn wrap(desk: &mut Desk<'_>, plain: &PlainKey, ctx: &EncCtx) -> Outcome<Wrapped> {
    let wrapped = desk.work.wrap(plain, ctx, desk.unproven())?;
    desk.proven();
    Ok(wrapped)
}

#[async_trait]
impl Kms for Pkcs11 {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let current = self.run((Op::Describe, key, call), Access::Read, |desk| desk.work.current()).await?;
        Ok(KeyInfo {
            id: key.clone(),
            state: current.state(),
            current: Some(current.id.name()),
            rotated_at: current.id.is_later().then(|| current.id.made_at()),
            expires_at: None,
            origin: current.origin(),
            auto_rotation: None,
        })
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let ctx = *ctx;
        let place = Place { provider: PROVIDER, op: Op::Generate, key: Some(key), call };
        let plain = PlainKey::random().map_err(|_| ErrorKind::Integrity("no random numbers"));
        let plain = place.decode(plain)?;
        let sent = plain.duplicate();
        let wrapped = self.pool.run(&place, Access::Read, move |desk| wrap(desk, &sent, &ctx)).await?;
        Ok((plain, wrapped))
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let (plain, ctx) = (plain.duplicate(), *ctx);
        self.run((Op::Wrap, key, call), Access::Read, move |desk| wrap(desk, &plain, &ctx)).await
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let place = Place { provider: PROVIDER, op: Op::Unwrap, key: Some(key), call };
        let (blob, ctx) = (place.decode(Blob::parse(wrapped))?, *ctx);
        let used = Some(blob.head.id().name());
        let asked_at = Instant::now();
        let key = self.pool.run(&place, Access::Read, move |desk| desk.work.unwrap(&blob, &ctx)).await?;
        Ok(Unwrapped { key, used, rewrapped: None, asked_at })
    }

    /// The data key passes through this process, which could unwrap it anyway: a token has no rewrapping of its own.
    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let place = Place { provider: PROVIDER, op: Op::Rewrap, key: Some(key), call };
        let (blob, ctx) = (place.decode(Blob::parse(wrapped))?, *ctx);
        let job = move |desk: &mut Desk<'_>| {
            let plain = desk.work.unwrap(&blob, &ctx)?;
            wrap(desk, &plain, &ctx)
        };
        self.pool.run(&place, Access::Read, job).await
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let mut all = self.run((Op::Versions, key, call), Access::Read, |desk| desk.work.versions()).await?;
        // An object that was restored twice is one version.
        all.dedup_by_key(|version| version.id);
        let info = |version: &version::Version| VersionInfo {
            version: version.id.name(),
            created_at: Some(version.id.made_at()),
        };
        Ok(all.iter().map(info).collect())
    }
}

#[cfg(test)]
mod tests;
