//! A key, its versions and the rules of its states (NIST SP 800-57, as Key Protect applies them).
//! Invariant: versions are never dropped while the key can be restored; the last one is current.

use serde::{Deserialize, Serialize};

use super::{Made, Material};
use crate::clock::{DAY, Seconds};

/// A state as a client sees it; the numbers are the API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// Everything is allowed.
    Active = 1,
    /// Disabled: nothing but reading, enabling and deleting.
    Suspended = 2,
    /// Past its expiration: what was wrapped can be unwrapped, nothing new wrapped.
    Deactivated = 3,
    /// Deleted; for 30 days it can be restored.
    Destroyed = 5,
}

/// One version of a key's material.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub id: String,
    pub created: Seconds,
    pub material: Material,
}

impl Version {
    /// A new version with an id of its own.
    pub fn new(material: Material, now: Seconds) -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), created: now, material }
    }
}

/// A second name of a key, unique in its instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alias {
    pub name: String,
    pub made: Made,
}

/// When and by whom the key was deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deletion {
    pub at: Seconds,
    pub by: String,
}

/// The first of two authorizations for a deletion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScheduledDeletion {
    pub at: Seconds,
    /// Identity id; the second authorization has to come from another one.
    pub by: String,
}

impl ScheduledDeletion {
    /// Seven days after it was given.
    pub fn expires(&self) -> Seconds {
        self.at + 7 * DAY
    }
}

/// Who made and who last changed a policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyStamp {
    pub id: String,
    pub created: Made,
    pub updated: Made,
}

impl PolicyStamp {
    /// A stamp for a policy that is made or changed now.
    pub fn touch(previous: Option<&Self>, now: Seconds, by: &str) -> Self {
        let made = Made { at: now, by: by.to_owned() };
        Self {
            id: previous.map_or_else(|| uuid::Uuid::new_v4().to_string(), |p| p.id.clone()),
            created: previous.map_or_else(|| made.clone(), |p| p.created.clone()),
            updated: made,
        }
    }
}

/// Rotates a key by itself, every `months` of 30 days.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotationPolicy {
    pub enabled: bool,
    pub months: u8,
    pub stamp: PolicyStamp,
}

/// Two persons are needed to delete the key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DualAuth {
    pub enabled: bool,
    pub stamp: PolicyStamp,
}

/// A root key (`extractable: false`) or a standard key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub aliases: Vec<Alias>,
    pub extractable: bool,
    pub imported: bool,
    pub ring: String,
    pub created: Made,
    pub expires: Option<Seconds>,
    /// When it was disabled; none while it is enabled.
    pub suspended: Option<Seconds>,
    pub deleted: Option<Deletion>,
    pub updated: Seconds,
    pub rotated: Option<Seconds>,
    pub rotation: Option<RotationPolicy>,
    pub dual_auth: Option<DualAuth>,
    pub scheduled_deletion: Option<ScheduledDeletion>,
    /// Oldest first.
    pub versions: Vec<Version>,
}

impl Key {
    /// The state at `now`.
    pub fn state(&self, now: Seconds) -> KeyState {
        if self.deleted.is_some() {
            KeyState::Destroyed
        } else if self.suspended.is_some() {
            KeyState::Suspended
        } else if self.expires.is_some_and(|at| at <= now) {
            KeyState::Deactivated
        } else {
            KeyState::Active
        }
    }

    /// The version that wraps.
    pub fn current(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The newest version whose material has this handle.
    pub fn version_of(&self, handle: &str) -> Option<&Version> {
        self.versions.iter().rev().find(|v| v.material.handle() == handle)
    }

    /// Adds a version and makes it current; every older one is retired by that.
    pub fn rotate(&mut self, material: Material, now: Seconds) {
        self.versions.push(Version::new(material, now));
        self.rotated = Some(now);
        self.updated = now;
    }

    /// When the rotation policy fires next, where one is in force. A rotation by hand starts the time anew.
    pub fn rotation_due(&self) -> Option<Seconds> {
        let policy = self.rotation.as_ref().filter(|p| p.enabled)?;
        let since = self.rotated.unwrap_or(self.created.at).max(policy.stamp.updated.at);
        Some(since + i64::from(policy.months) * 30 * DAY)
    }

    /// The first authorization for a deletion, while it is valid.
    pub fn deletion_authorized(&self, now: Seconds) -> Option<&ScheduledDeletion> {
        self.scheduled_deletion.as_ref().filter(|s| s.expires() > now)
    }

    /// Whether a deletion takes two persons.
    pub fn needs_dual_auth(&self) -> bool {
        self.dual_auth.as_ref().is_some_and(|d| d.enabled)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key() -> Key {
        let made = Made { at: 1000, by: "x".into() };
        Key {
            id: "k".into(),
            name: "k".into(),
            description: None,
            tags: vec![],
            aliases: vec![],
            extractable: false,
            imported: false,
            ring: super::super::DEFAULT_RING.into(),
            created: made,
            expires: Some(5000),
            suspended: None,
            deleted: None,
            updated: 1000,
            rotated: None,
            rotation: None,
            dual_auth: None,
            scheduled_deletion: None,
            versions: vec![Version::new(Material::random().unwrap(), 1000)],
        }
    }

    #[test]
    fn expiry_deactivates_and_deletion_outranks_everything() {
        let mut key = key();
        assert_eq!(key.state(4999), KeyState::Active);
        assert_eq!(key.state(5000), KeyState::Deactivated);
        key.suspended = Some(4000);
        assert_eq!(key.state(5000), KeyState::Suspended);
        key.deleted = Some(Deletion { at: 4500, by: "x".into() });
        assert_eq!(key.state(4600), KeyState::Destroyed);
    }

    #[test]
    fn a_rotation_keeps_every_older_version_findable() {
        let mut key = key();
        let old = key.current().unwrap().clone();
        key.rotate(Material::random().unwrap(), 2000);
        assert_ne!(key.current().unwrap().id, old.id);
        assert_eq!(key.version_of(&old.material.handle()).unwrap().id, old.id);
    }

    #[test]
    fn a_rotation_by_hand_starts_the_policy_anew() {
        let mut key = key();
        let stamp = PolicyStamp::touch(None, 1000, "x");
        key.rotation = Some(RotationPolicy { enabled: true, months: 1, stamp });
        assert_eq!(key.rotation_due(), Some(1000 + 30 * DAY));
        key.rotate(Material::random().unwrap(), 9000);
        assert_eq!(key.rotation_due(), Some(9000 + 30 * DAY));
    }
}
