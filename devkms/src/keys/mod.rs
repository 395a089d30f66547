//! What the KMS keeps: instances, root keys and standard keys, their versions and policies. Invariant: pure data and rules, no I/O and no clock of its own.

pub mod import;
pub mod key;
pub mod material;
pub mod wrap;

pub use key::{Deletion, DualAuth, Key, KeyState, PolicyStamp, RotationPolicy, ScheduledDeletion, Version};
pub use material::Material;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Seconds;

/// The ring that every key without another one belongs to; it can be neither made nor deleted.
pub const DEFAULT_RING: &str = "default";

/// One service instance: its keys, rings, policies and at most one import token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub id: String,
    /// Kept in a file for each key, beside this record.
    #[serde(skip)]
    pub keys: BTreeMap<String, Key>,
    pub rings: BTreeMap<String, Made>,
    pub import_token: Option<import::ImportToken>,
    /// By policy type (`dualAuthDelete`, `keyCreateImportAccess`, …).
    pub policies: BTreeMap<String, InstancePolicy>,
}

/// Who made something, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    pub at: Seconds,
    pub by: String,
}

/// A policy of a whole instance: `enabled` and attributes as the caller sent them, checked where the server acts on them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstancePolicy {
    pub enabled: bool,
    pub attributes: Option<serde_json::Value>,
    pub stamp: PolicyStamp,
}

impl Instance {
    /// An instance with nothing but its default ring.
    pub fn new(id: &str, now: Seconds, by: &str) -> Self {
        let made = Made { at: now, by: by.to_owned() };
        Self {
            id: id.to_owned(),
            keys: BTreeMap::new(),
            rings: BTreeMap::from([(DEFAULT_RING.to_owned(), made)]),
            import_token: None,
            policies: BTreeMap::new(),
        }
    }

    /// The id of the key that `reference` names: an id, else an alias.
    pub fn resolve(&self, reference: &str) -> Option<&Key> {
        self.keys
            .get(&reference.to_ascii_lowercase())
            .or_else(|| self.keys.values().find(|key| key.aliases.iter().any(|a| a.name == reference)))
    }

    /// An attribute of an enabled policy, or `default` where nothing says otherwise.
    pub fn policy_flag(&self, policy: &str, attribute: &str, default: bool) -> bool {
        match self.policies.get(policy) {
            Some(p) if p.enabled => p
                .attributes
                .as_ref()
                .and_then(|a| a.get(attribute))
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(default),
            _ => default,
        }
    }
}
