//! Transit's side of [`KmsAdmin`]: creation, rotation, states, the engine's own rotation.
//!
//! Invariant: a key is deleted only where its owner allowed that at the engine (`deletion_allowed`), because nothing brings it
//! back. Disabling is OpenBao's soft deletion; HashiCorp Vault has no such thing, and says so.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;

use super::exchange::Site;
use super::wire::{NewKeyBody, RotationBody};
use super::{Transit, check_name};
use crate::admin::{Ability, KmsAdmin, NewKey, Permission};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::http::json_body;
use crate::key::KeyRef;

impl Site<'_> {
    async fn change(&self, method: Method, path: &[&str], body: Option<bytes::Bytes>) -> Result<()> {
        self.ask(method, path, body).await.map(drop).map_err(KmsError::settled)
    }
}

#[async_trait]
impl KmsAdmin for Transit {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let key = KeyRef(new.name.clone());
        let site = self.exchange.site(Op::Create, Some(&key), call);
        site.place
            .decode(check_name("name", &new.name).map_err(|error| ErrorKind::Config(error.to_string())))?;
        // The engine would take an existing key for the new one.
        match self.fetch(&site, &key).await.map_err(KmsError::settled) {
            Err(error) if error.kind == ErrorKind::KeyNotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return site.place.decode(Err(ErrorKind::Config("a key of this name exists".into())));
            }
        }
        let body = json_body(&NewKeyBody { kind: "aes256-gcm96", derived: true });
        site.change(Method::POST, &["keys", &key.0], Some(body)).await?;
        Ok(key)
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Rotate, Some(key), call);
        site.change(Method::POST, &["keys", &key.0, "rotate"], None).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let (op, method, action) = if enabled {
            (Op::Enable, Method::POST, "soft-delete-restore")
        } else {
            (Op::Disable, Method::DELETE, "soft-delete")
        };
        self.exchange.site(op, Some(key), call).change(method, &["keys", &key.0, action], None).await
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        let site = self.exchange.site(Op::Delete, Some(key), call);
        site.change(Method::DELETE, &["keys", &key.0], None).await
    }

    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        self.exchange.site(Op::Restore, Some(key), call).place.decode(Err(ErrorKind::Unsupported))
    }

    async fn set_auto_rotation(
        &self,
        key: &KeyRef,
        interval: Option<Duration>,
        call: &CallCtx,
    ) -> Result<()> {
        let site = self.exchange.site(Op::SetRotationPolicy, Some(key), call);
        let body = json_body(&RotationBody::new(interval));
        site.change(Method::POST, &["keys", &key.0, "config"], Some(body)).await
    }

    async fn may(&self, what: Ability, key: &KeyRef, call: &CallCtx) -> Result<Permission> {
        self.permission(what, key, call).await
    }
}
