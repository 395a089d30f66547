//! AWS's side of [`KmsAdmin`]: creation, rotation, states, the service's own rotation.
//!
//! Invariant: a deletion waits as long as AWS lets it wait, because nothing brings a key back after that.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::Aws;
use super::exchange::Site;
use super::wire::{CreateBody, DeletionBody, KeyReply, OfKey, RotationPeriodBody};
use crate::admin::{KmsAdmin, NewKey};
use crate::call::{CallCtx, Op};
use crate::error::{KmsError, Result};
use crate::http::json_body;
use crate::key::KeyRef;

/// The longest that AWS has; 7 is the shortest.
const DELETION_DAYS: u8 = 30;

impl Site<'_> {
    async fn change(&self, action: &str, body: &impl Serialize) -> Result<()> {
        self.ask(action, json_body(body)).await.map(drop).map_err(KmsError::settled)
    }
}

impl Aws {
    /// The key itself: of the owner's operations only a few take an alias.
    async fn meant(&self, site: &Site<'_>, key: &KeyRef) -> Result<KeyRef> {
        if !key.0.starts_with("alias/") && !key.0.contains(":alias/") {
            return Ok(key.clone());
        }
        self.look(site, key).await.map(|body| body.key()).map_err(KmsError::settled)
    }
}

#[async_trait]
impl KmsAdmin for Aws {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let site = self.exchange.site(Op::Create, None, call);
        let NewKey { name, description } = new;
        // Keys have no name of their own in AWS.
        let description = description.as_ref().map_or_else(|| name.clone(), |text| format!("{name}: {text}"));
        let made: Result<KeyReply> = site.act("CreateKey", &CreateBody { description }).await;
        Ok(made.map_err(KmsError::settled)?.key_metadata.key())
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Rotate, Some(key), call);
        let key = self.meant(&site, key).await?;
        site.change("RotateKeyOnDemand", &OfKey { key_id: &key.0 }).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let (op, action) = if enabled { (Op::Enable, "EnableKey") } else { (Op::Disable, "DisableKey") };
        let site = self.exchange.site(op, Some(key), call);
        let key = self.meant(&site, key).await?;
        site.change(action, &OfKey { key_id: &key.0 }).await
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Delete, Some(key), call);
        let key = self.meant(&site, key).await?;
        let body = DeletionBody { key_id: &key.0, pending_window_in_days: DELETION_DAYS };
        site.change("ScheduleKeyDeletion", &body).await
    }

    /// AWS leaves a key disabled whose deletion was taken back: enabling is part of it here.
    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Restore, Some(key), call);
        let key = self.meant(&site, key).await?;
        site.change("CancelKeyDeletion", &OfKey { key_id: &key.0 }).await?;
        site.change("EnableKey", &OfKey { key_id: &key.0 }).await
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let site = self.exchange.site(Op::SetRotationPolicy, Some(key), call);
        let key = self.meant(&site, key).await?;
        match interval {
            None => site.change("DisableKeyRotation", &OfKey { key_id: &key.0 }).await,
            Some(interval) => {
                let body = site.place.decode(RotationPeriodBody::new(&key, interval))?;
                site.change("EnableKeyRotation", &body).await
            }
        }
    }
}
