//! What changes a root key. Only the operator (with a credential of its own), the command line and tests use it.
//!
//! Invariant: these calls are never repeated by themselves, because a repeated rotation is another rotation.

use std::time::Duration;

use async_trait::async_trait;

use crate::call::CallCtx;
use crate::error::Result;
use crate::key::KeyRef;

/// A new root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// A name for people.
    pub name: String,
    /// A description for people.
    pub description: Option<String>,
}

/// What a credential may be able to do to a root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ability {
    /// Make a new version the current one.
    Rotate,
    /// Set the KMS's own rotation interval.
    SetRotationPolicy,
    /// Stop all use of the root key.
    Disable,
}

/// What is known of an ability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// The credential has it.
    Granted,
    /// It has not.
    Withheld,
    /// The KMS was asked, and its answer leaves it open.
    Open,
    /// The KMS offers no way to ask without doing it, so it was not asked.
    NotAsked,
}

/// The owner's side of a key management service.
#[async_trait]
pub trait KmsAdmin: Send + Sync {
    /// Makes a root key whose material the KMS generates; returns its id.
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef>;

    /// Makes a new version the current one. `TooEarly` where the KMS wants more time between rotations.
    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()>;

    /// Enables or disables the root key. `TooEarly` where the KMS wants more time between the two.
    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()>;

    /// Deletes the root key; it may be restorable for some time.
    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()>;

    /// Takes a deletion back.
    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()>;

    /// Sets the KMS's own rotation interval, rounded up to what it knows (Key Protect: 1 to 12 months of 30 days);
    /// `None` turns it off.
    async fn set_auto_rotation(&self, key: &KeyRef, interval: Option<Duration>, call: &CallCtx)
    -> Result<()>;

    /// Finds out whether this credential may do something to the root key, without doing it. A provider claims `Granted` or
    /// `Withheld` only where the answer of its KMS can mean nothing else.
    async fn may(&self, what: Ability, key: &KeyRef, call: &CallCtx) -> Result<Permission> {
        let _ = (what, key, call);
        Ok(Permission::NotAsked)
    }
}
