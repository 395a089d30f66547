//! The vault's side of [`KmsAdmin`]: creation, rotation, states of all versions, deletion and recovery.
//!
//! Invariant: the key is disabled from its current version on and enabled up to it, so that what the current version says holds
//! for all of them; nothing here gives a key that is there another version by mistake, or one that is disabled a new chance.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;

use super::exchange::{Ask, Site};
use super::rotation::Policy;
use super::wire::{NewKeyBody, StateBody};
use super::{Azure, address, check_name};
use crate::admin::{KmsAdmin, NewKey};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::key::KeyRef;

impl Site<'_> {
    async fn change(&self, ask: Ask<'_>) -> Result<()> {
        self.ask(ask).await.map(drop).map_err(KmsError::settled)
    }

    /// Changes every version: the current one first, or last.
    async fn set_state(&self, enabled: bool, current_first: bool) -> Result<()> {
        let name = self.name();
        let current = self.look().await.map_err(KmsError::settled)?.version.text();
        let listed = self.versions().await.map_err(KmsError::settled)?;
        let mut versions: Vec<String> = listed.into_iter().map(|info| info.version.0).collect();
        versions.sort_by_key(|version| (*version == current) != current_first);
        for version in versions {
            let path = ["keys", name, &version];
            self.change(Ask::with(Method::PATCH, &path, &StateBody::new(enabled))).await?;
        }
        Ok(())
    }
}

fn bare<'a>(method: Method, path: &'a [&'a str]) -> Ask<'a> {
    Ask { method, ..Ask::get(path) }
}

#[async_trait]
impl KmsAdmin for Azure {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let key = KeyRef(new.name.clone());
        let site = self.exchange.site(Op::Create, &key, call);
        site.place
            .decode(check_name("name", &new.name).map_err(|error| ErrorKind::Config(error.to_string())))?;
        // The vault would give a key of this name another version.
        match site.look().await.map_err(KmsError::settled) {
            Err(error) if error.kind == ErrorKind::KeyNotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return site.place.decode(Err(ErrorKind::Config("a key of this name exists".into())));
            }
        }
        let managed_hsm = address::is_managed_hsm(&self.exchange.endpoint);
        let body = NewKeyBody::new(managed_hsm, new.description.as_deref());
        site.change(Ask::with(Method::POST, &["keys", &key.0, "create"], &body)).await?;
        Ok(key)
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Rotate, key, call);
        // The new version would be enabled.
        if !site.look().await.map_err(KmsError::settled)?.enabled() {
            return site.place.decode(Err(ErrorKind::KeyDisabled));
        }
        site.change(bare(Method::POST, &["keys", &key.0, "rotate"])).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let op = if enabled { Op::Enable } else { Op::Disable };
        self.exchange.site(op, key, call).set_state(enabled, !enabled).await
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Delete, key, call);
        site.change(bare(Method::DELETE, &["keys", &key.0])).await
    }

    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Restore, key, call);
        site.change(bare(Method::POST, &["deletedkeys", &key.0, "recover"])).await
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let site = self.exchange.site(Op::SetRotationPolicy, key, call);
        let path = ["keys", &key.0, "rotationpolicy"];
        let policy: Policy = site.read(Ask::get(&path)).await.map_err(KmsError::settled)?;
        site.change(Ask::with(Method::PUT, &path, &policy.with(interval))).await
    }
}
