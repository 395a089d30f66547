//! Cloud KMS's side of [`KmsAdmin`]: the service has states of versions only, so the key as a whole is every version of it.
//!
//! Invariant: a change of state begins where it shows. Whatever stops the key comes to the primary version first, whatever brings it
//! back comes to the primary version last; and the primary version is always told, so that a missing permission always shows.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::Serialize;

use super::exchange::Site;
use super::wire::{NewKeyBody, NoBody, PrimaryBody, RotationBody, StateBody, VersionBody};
use super::{Google, name};
use crate::admin::{KmsAdmin, NewKey};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::key::{KeyRef, KeyState};

impl Google {
    /// Every version with its state, the primary one first.
    async fn states(&self, site: &Site<'_>, key: &KeyRef) -> Result<Vec<(VersionBody, KeyState)>> {
        let current = site.key(key).await.map_err(KmsError::settled)?.current();
        let mut states = Vec::new();
        for body in self.all_versions(site, key).await.map_err(KmsError::settled)? {
            let state = site.place.decode(body.state())?;
            states.push((body, state));
        }
        states.sort_by_key(|(body, _)| body.version() != current);
        Ok(states)
    }
}

impl Site<'_> {
    async fn post(&self, name: &str, query: &[(&str, &str)], body: &impl Serialize) -> Result<()> {
        self.change(Method::POST, name, query, body).await.map(drop).map_err(KmsError::settled)
    }

    async fn patch(&self, name: &str, mask: &str, body: &impl Serialize) -> Result<()> {
        let query = [("updateMask", mask)];
        self.change(Method::PATCH, name, &query, body).await.map(drop).map_err(KmsError::settled)
    }

    async fn enable(&self, version: &VersionBody) -> Result<()> {
        self.patch(&version.name, "state", &StateBody { state: "ENABLED" }).await
    }

    /// A name of the service's own, before it becomes part of an address.
    fn usable(&self, key: &KeyRef, version: &VersionBody) -> Result<()> {
        let usable = name::version(&version.name, key).map(drop);
        self.place.decode(usable.ok_or(ErrorKind::Integrity("it is about another key")))
    }
}

#[async_trait]
impl KmsAdmin for Google {
    /// In the ring of the configured key, with material of software; the service keeps no description.
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let key = KeyRef(format!("{}/cryptoKeys/{}", self.ring, new.name));
        let site = self.exchange.site(Op::Create, Some(&key), call);
        site.place.decode(
            name::check_id("name", &new.name).map_err(|error| ErrorKind::Config(error.to_string())),
        )?;
        let query = [("cryptoKeyId", new.name.as_str())];
        let body = NewKeyBody { purpose: "ENCRYPT_DECRYPT" };
        site.post(&format!("{}/cryptoKeys", self.ring), &query, &body).await?;
        Ok(key)
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Rotate, Some(key), call);
        let made = site.change(Method::POST, &format!("{}/cryptoKeyVersions", key.0), &[], &NoBody {}).await;
        let made: VersionBody = site.place.parse(&made.map_err(KmsError::settled)?)?;
        site.usable(key, &made)?;
        let version = made.version().ok_or(ErrorKind::Integrity("it made no version"));
        let version = site.place.decode(version)?;
        let body = PrimaryBody { crypto_key_version_id: &version.0 };
        site.post(&format!("{}:updatePrimaryVersion", key.0), &[], &body).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let (op, from) =
            if enabled { (Op::Enable, KeyState::Disabled) } else { (Op::Disable, KeyState::Enabled) };
        let site = self.exchange.site(op, Some(key), call);
        let mut states = self.states(&site, key).await?;
        if enabled {
            states.reverse();
        }
        let primary = if enabled { states.len().saturating_sub(1) } else { 0 };
        for (at, (version, state)) in states.iter().enumerate() {
            site.usable(key, version)?;
            if *state != from && at != primary {
                continue;
            }
            if enabled {
                site.enable(version).await?;
            } else {
                site.patch(&version.name, "state", &StateBody { state: "DISABLED" }).await?;
            }
        }
        Ok(())
    }

    /// Schedules the destruction of every version; the service keeps the key's name for ever.
    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Delete, Some(key), call);
        for (version, state) in self.states(&site, key).await? {
            site.usable(key, &version)?;
            if matches!(state, KeyState::Enabled | KeyState::Disabled) {
                site.post(&format!("{}:destroy", version.name), &[], &NoBody {}).await?;
            }
        }
        Ok(())
    }

    /// The service restores into the disabled state; what was to be deleted is enabled besides.
    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Restore, Some(key), call);
        for (version, state) in self.states(&site, key).await?.into_iter().rev() {
            site.usable(key, &version)?;
            if state == KeyState::PendingDeletion {
                site.post(&format!("{}:restore", version.name), &[], &NoBody {}).await?;
                site.enable(&version).await?;
            }
        }
        Ok(())
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let site = self.exchange.site(Op::SetRotationPolicy, Some(key), call);
        let body = RotationBody::new(interval, jiff::Timestamp::now());
        site.patch(&key.0, "rotationPeriod,nextRotationTime", &body).await
    }
}
