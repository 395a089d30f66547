//! Key Protect's side of [`KmsAdmin`]: rotation, states, creation, policies.
//!
//! Invariant: a denial needs no confirmation here, because no cached key hangs on it.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;

use super::exchange::{Ask, Site};
use super::wire::{self, Collection, Envelope, KeyBody, NewKeyBody, PolicyBody};
use super::{KeyProtect, POST};
use crate::admin::{Ability, KmsAdmin, NewKey, Permission};
use crate::call::{CallCtx, Op};
use crate::error::{KmsError, Result};
use crate::http::json_body;
use crate::key::KeyRef;

impl Site<'_> {
    async fn change(&self, ask: Ask<'_>) -> Result<()> {
        self.ask(&ask).await.map(drop).map_err(KmsError::settled)
    }
}

fn action<'a>(path: &'a [&'a str]) -> Ask<'a> {
    Ask { method: POST, path, query: &[], content_type: None, body: None }
}

#[async_trait]
impl KmsAdmin for KeyProtect {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let site = self.exchange.site(Op::Create, None, call);
        let body = NewKeyBody::root(&new.name, new.description.as_deref());
        let body = Some(json_body(&Envelope::new(wire::KEY, body)));
        let ask = Ask { content_type: Some(wire::KEY), body, ..action(&["keys"]) };
        let reply = site.ask(&ask).await.map_err(KmsError::settled)?;
        let created: Collection<KeyBody> = site.parse(&reply)?;
        site.decode(created.single().map(KeyBody::id))
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let path = ["keys", key.0.as_str(), "actions", "rotate"];
        let body = Some(bytes::Bytes::from_static(b"{}"));
        let ask = Ask { content_type: Some(wire::ROTATE), body, ..action(&path) };
        self.exchange.site(Op::Rotate, Some(key), call).change(ask).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let (op, name) = if enabled { (Op::Enable, "enable") } else { (Op::Disable, "disable") };
        let path = ["keys", key.0.as_str(), "actions", name];
        self.exchange.site(op, Some(key), call).change(action(&path)).await
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let path = ["keys", key.0.as_str()];
        let ask = Ask { method: Method::DELETE, ..action(&path) };
        self.exchange.site(Op::Delete, Some(key), call).change(ask).await
    }

    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let path = ["keys", key.0.as_str(), "restore"];
        self.exchange.site(Op::Restore, Some(key), call).change(action(&path)).await
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let path = ["keys", key.0.as_str(), "policies"];
        let body = Some(json_body(&Envelope::new(wire::POLICY, PolicyBody::rotation(interval))));
        let ask = Ask {
            method: Method::PUT,
            path: &path,
            query: &[("policy", "rotation")],
            content_type: Some("application/json"),
            body,
        };
        self.exchange.site(Op::SetRotationPolicy, Some(key), call).change(ask).await
    }

    async fn may(&self, what: Ability, key: &KeyRef, call: &CallCtx) -> Result<Permission> {
        self.permission(what, key, call).await
    }
}
