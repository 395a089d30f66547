//! AWS KMS: `trait Kms` over its JSON API, signed, with the crate's own HTTP.
//!
//! The context is bound as an encryption context, through rewraps too. Invariant: a version is what AWS itself says of a wrapped
//! key. `Encrypt` does not say it, so what it wrapped is rewrapped at once: `ReEncrypt` does.

mod admin;
mod exchange;
mod identity;
mod keys;
mod sign;
mod verdict;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use contract::config::{AwsKms, Credential};
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
use exchange::{Clock, Exchange, Site};
use identity::{AwsIdentity, Role};
use wire::{
    CryptReply, DecryptBody, EncryptBody, GenerateBody, KeyBody, KeyReply, ListBody, OfKey, ReEncryptBody,
    RotationStatus, RotationsPage,
};

/// The provider's name in errors, audit events and metrics.
pub(crate) const PROVIDER: &str = "aws";

/// More versions than any policy makes in a thousand years; an endless list ends here.
const MAX_PAGES: usize = 64;

/// AWS KMS in one region, reached with one credential.
pub(crate) struct Aws {
    exchange: Exchange,
    caps: Caps,
    /// When a version was made by a rotation, which never changes.
    rotated: Mutex<HashMap<KeyVersion, Option<SystemTime>>>,
}

impl Aws {
    /// Checks the configuration; makes no call. With `secret`, the credential's file is not read.
    pub(crate) fn new(
        spec: &AwsKms,
        config: &ProviderConfig,
        secret: Option<SecretString>,
        options: &Options,
    ) -> std::result::Result<Self, ConfigError> {
        let AwsKms { region, key, .. } = spec;
        check("region", region, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')?;
        check("key", key, |b| b.is_ascii_alphanumeric() || b":/_-".contains(&b))?;
        check_region_of(key, region)?;
        let parse = |field, address: String| Endpoint::parse(field, &address, config.allow_loopback_http);
        let endpoint = parse("endpoint", spec.endpoint())?;
        let sts = parse("stsEndpoint", spec.sts_endpoint())?;
        let role = match &config.credential {
            Credential::AwsKeysFile { .. } => None,
            Credential::AwsWebIdentity { role_arn, .. } => {
                check("credential.roleArn", role_arn, |b| b.is_ascii_graphic())?;
                Some(role_arn)
            }
            _ => return Err(ConfigError::Credential),
        };
        let https_only = endpoint.is_https() && (role.is_none() || sts.is_https());
        let http = Arc::new(Http::new(HttpConfig::new(config, options, https_only)?)?);
        let role = role.map(|arn| Role { http: Arc::clone(&http), sts, arn: arn.clone() });
        let identity = AwsIdentity::new(role, config.credential.path(), secret);
        let tokens = Arc::new(Tokens::new(Box::new(identity), options));
        let exchange = Exchange { http, tokens, endpoint, region: region.clone(), clock: Clock::default() };
        Ok(Self { exchange, caps: caps(), rotated: Mutex::default() })
    }

    async fn look(&self, site: &Site<'_>, key: &KeyRef) -> Result<KeyBody> {
        let KeyReply { key_metadata } = site.act("DescribeKey", &OfKey { key_id: &key.0 }).await?;
        Ok(key_metadata)
    }

    /// What `DescribeKey` leaves out, where it may be asked: the rotation that AWS does by itself, and when it rotated last.
    async fn tell_rotations(&self, site: &Site<'_>, body: &KeyBody, info: &mut KeyInfo) -> Result<()> {
        let status = site.ask_once("GetKeyRotationStatus", &OfKey { key_id: &body.arn }).await;
        info.auto_rotation = match status {
            Ok(status) => RotationStatus::interval(&status),
            // A key that cannot have one, or a policy that does not let us ask.
            Err(error) if !error.is_outage() => None,
            Err(error) => return Err(error),
        };
        let Some(current) = info.current.clone() else { return Ok(()) };
        let known = self.rotated.lock().unwrap_or_else(PoisonError::into_inner).get(&current).copied();
        info.rotated_at = match known {
            Some(at) => at,
            None => self.rotated_at(site, body, current).await,
        };
        Ok(())
    }

    /// Asked once for a version, on the first page: a key whose versions fill more than that has no known date.
    async fn rotated_at(&self, site: &Site<'_>, body: &KeyBody, current: KeyVersion) -> Option<SystemTime> {
        let page: Result<RotationsPage> = site.ask_once("ListKeyRotations", &list(body, None)).await;
        let at = match page {
            Ok(page) => wire::versions(body, page.rotations).ok().and_then(|listed| {
                let (info, rotated) = listed.into_iter().next()?;
                info.created_at.filter(|_| rotated && info.version == current)
            }),
            Err(error) if error.is_outage() => return None,
            Err(_) => None,
        };
        self.rotated.lock().unwrap_or_else(PoisonError::into_inner).insert(current, at);
        at
    }
}

fn list(body: &KeyBody, marker: Option<String>) -> ListBody<'_> {
    ListBody { key_id: &body.arn, include_key_material: "ALL_KEY_MATERIAL", marker }
}

fn caps() -> Caps {
    Caps {
        provider: PROVIDER,
        scheme: ContextScheme::EncryptionContext,
        native_generate: true,
        native_rewrap: true,
        rewrap_on_unwrap: false,
        version_in_reply: true,
        list_versions: true,
        per_version_state: false,
        min_rotate_interval: None,
    }
}

fn check(
    field: &'static str,
    value: &str,
    allowed: impl Fn(u8) -> bool,
) -> std::result::Result<(), ConfigError> {
    let fits = (1..=2048).contains(&value.len()) && value.bytes().all(allowed);
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

/// An ARN names its region; a key of another one would be asked for in vain.
fn check_region_of(key: &str, region: &str) -> std::result::Result<(), ConfigError> {
    let named = key.strip_prefix("arn:").map(|rest| rest.split(':').nth(2).unwrap_or_default());
    match named {
        Some(named) if named != region => Err(ConfigError::Field { field: "key" }),
        _ => Ok(()),
    }
}

/// What AWS logs of who asks: CloudTrail has no other place for a name of ours.
fn agent(call: &CallCtx) -> String {
    format!("cofferdam/{} correlation/{}", env!("CARGO_PKG_VERSION"), call.correlation_id)
}

#[async_trait]
impl Kms for Aws {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    async fn describe(&self, key: &KeyRef, call: &CallCtx) -> Result<KeyInfo> {
        let site = self.exchange.site(Op::Describe, Some(key), call);
        let body = self.look(&site, key).await?;
        let mut info = site.place.decode(body.info())?;
        if info.state.unwraps() && body.rotates_by_itself() {
            self.tell_rotations(&site, &body, &mut info).await?;
        }
        Ok(info)
    }

    async fn generate(&self, key: &KeyRef, ctx: &EncCtx, call: &CallCtx) -> Result<(PlainKey, Wrapped)> {
        let site = self.exchange.site(Op::Generate, Some(key), call);
        let reply: CryptReply = site.act("GenerateDataKey", &GenerateBody::new(key, ctx)).await?;
        let plain = site.place.decode(reply.plain())?;
        Ok((plain, site.place.decode(reply.generated())?))
    }

    async fn wrap(&self, key: &KeyRef, plain: &PlainKey, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Wrap, Some(key), call);
        let reply: CryptReply = site.act("Encrypt", &EncryptBody::new(key, plain, ctx)).await?;
        let blob = site.place.decode(reply.blob())?;
        let reply: CryptReply = site.act("ReEncrypt", &ReEncryptBody::new(key, &blob, ctx)).await?;
        site.place.decode(reply.moved())
    }

    async fn unwrap(
        &self,
        key: &KeyRef,
        wrapped: &Wrapped,
        ctx: &EncCtx,
        call: &CallCtx,
    ) -> Result<Unwrapped> {
        let site = self.exchange.site(Op::Unwrap, Some(key), call);
        let blob = site.place.decode(wire::blob_of(wrapped))?;
        let asked_at = Instant::now();
        let reply: CryptReply = site.act("Decrypt", &DecryptBody::new(key, blob, ctx)).await?;
        let (key, used) = (site.place.decode(reply.plain())?, site.place.decode(reply.used())?);
        Ok(Unwrapped { key, used: Some(used), rewrapped: None, asked_at })
    }

    async fn rewrap(&self, key: &KeyRef, wrapped: &Wrapped, ctx: &EncCtx, call: &CallCtx) -> Result<Wrapped> {
        let site = self.exchange.site(Op::Rewrap, Some(key), call);
        let blob = site.place.decode(wire::blob_of(wrapped))?;
        let reply: CryptReply = site.act("ReEncrypt", &ReEncryptBody::new(key, blob, ctx)).await?;
        site.place.decode(reply.moved())
    }

    async fn versions(&self, key: &KeyRef, call: &CallCtx) -> Result<Vec<VersionInfo>> {
        let site = self.exchange.site(Op::Versions, Some(key), call);
        let body = self.look(&site, key).await?;
        let (mut listed, mut marker) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = site.act("ListKeyRotations", &list(&body, marker.take())).await;
            let page: RotationsPage = match page {
                Err(error) if error.kind == ErrorKind::Unsupported => {
                    let version = site.place.decode(body.current())?;
                    return Ok(vec![VersionInfo { version, created_at: body.created_at() }]);
                }
                page => page?,
            };
            listed.extend(page.rotations);
            marker = page.next_marker;
            if !page.truncated || marker.is_none() {
                let versions = site.place.decode(wire::versions(&body, listed))?;
                return Ok(versions.into_iter().map(|(info, _)| info).collect());
            }
        }
        site.place.decode(Err(ErrorKind::Integrity("it lists versions without end")))
    }
}

#[cfg(test)]
mod tests;
