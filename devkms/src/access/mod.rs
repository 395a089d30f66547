//! Who may do what: identities, their grants, the tokens issued to them. Invariant: without a grant that names the action and covers
//! the instance and the key, nothing is allowed.

pub mod iam;
pub mod roles;
pub mod service_account;
pub mod token;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::Seconds;
use crate::keys::Key;
use roles::{Role, canonical};

/// A permission: a role, or a custom role's list of actions, on an instance or on some of its keys or rings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Grant {
    /// One of the service's own roles.
    pub role: Option<Role>,
    /// The actions of a custom role, such as `kms.secrets.rewrap`.
    pub actions: Vec<String>,
    /// Only this instance; every instance where absent.
    pub instance: Option<String>,
    /// Only these key ids; every key where empty.
    pub keys: Vec<String>,
    /// Only keys in these rings; every ring where empty.
    pub key_rings: Vec<String>,
}

impl Grant {
    /// A role on everything.
    pub fn role(role: Role) -> Self {
        Self { role: Some(role), ..Self::default() }
    }

    /// A custom role on everything.
    pub fn actions(actions: &[&str]) -> Self {
        Self { actions: actions.iter().map(|a| (*a).to_owned()).collect(), ..Self::default() }
    }

    /// The same permission on one key only.
    #[must_use]
    pub fn on_key(mut self, id: &str) -> Self {
        self.keys.push(id.to_owned());
        self
    }

    fn names(&self, action: &str) -> bool {
        self.role.is_some_and(|role| role.allows(action))
            || self.actions.iter().any(|a| canonical(a) == action)
    }

    fn covers(&self, what: &Resource<'_>) -> bool {
        if self.instance.as_deref().is_some_and(|i| i != what.instance()) {
            return false;
        }
        match what {
            Resource::Key(_, key) => {
                (self.keys.is_empty() || self.keys.iter().any(|id| id.eq_ignore_ascii_case(&key.id)))
                    && (self.key_rings.is_empty() || self.key_rings.contains(&key.ring))
            }
            Resource::Ring(_, ring) => {
                self.keys.is_empty()
                    && (self.key_rings.is_empty() || self.key_rings.iter().any(|r| r == ring))
            }
            Resource::Instance(_) => self.keys.is_empty() && self.key_rings.is_empty(),
            Resource::Some(_) => true,
        }
    }
}

/// What an action is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// The instance as a whole.
    Instance(&'a str),
    /// Whatever of the instance the caller may see: lists filter afterwards.
    Some(&'a str),
    /// A key ring, or a key that is about to be made in it.
    Ring(&'a str, &'a str),
    /// One key.
    Key(&'a str, &'a Key),
}

impl Resource<'_> {
    fn instance(&self) -> &str {
        match self {
            Self::Instance(i) | Self::Some(i) | Self::Ring(i, _) | Self::Key(i, _) => i,
        }
    }
}

/// A service ID (with an API key) or a trusted profile.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `iam-ServiceId-…` or `iam-Profile-…`.
    pub id: String,
    /// The name in the seed; control calls use it.
    pub name: String,
    pub grants: Vec<Grant>,
    /// As seeded, for a control call that takes revocations back.
    pub seeded: Vec<Grant>,
    /// A disabled identity gets no token.
    pub enabled: bool,
    /// Tokens issued at or before this number are refused.
    pub revoked_through: u64,
}

impl Identity {
    /// Whether a grant of this identity allows `action` on `what`.
    pub fn may(&self, action: &str, what: &Resource<'_>) -> bool {
        let action = canonical(action);
        self.grants.iter().any(|g| g.names(action) && g.covers(what))
    }
}

/// All identities and the API keys that stand for them.
#[derive(Default)]
pub struct Access {
    identities: BTreeMap<String, Identity>,
    api_keys: BTreeMap<String, String>,
    profiles: Vec<service_account::TrustedProfile>,
    /// Number of the last token issued: microseconds since the epoch, so that it also grows over a restart.
    issued: u64,
    /// Single tokens that were revoked, by `jti`.
    revoked: Vec<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The API keys are the secrets themselves.
        f.debug_struct("Access").field("identities", &self.identities).finish_non_exhaustive()
    }
}

impl Access {
    /// Adds a service ID that the API key `secret` stands for.
    pub fn add_api_key(&mut self, name: &str, secret: &str, grants: Vec<Grant>) {
        let id = self.add(name, format!("iam-ServiceId-{}", stable_id(name)), grants);
        self.api_keys.insert(secret.to_owned(), id);
    }

    /// Adds a trusted profile.
    pub fn add_profile(&mut self, profile: service_account::TrustedProfile, grants: Vec<Grant>) {
        self.add(&profile.name, format!("iam-{}", profile.id), grants);
        self.profiles.push(profile);
    }

    fn add(&mut self, name: &str, id: String, grants: Vec<Grant>) -> String {
        let identity = Identity {
            id: id.clone(),
            name: name.to_owned(),
            seeded: grants.clone(),
            grants,
            enabled: true,
            revoked_through: 0,
        };
        self.identities.insert(id.clone(), identity);
        id
    }

    /// The identity of an API key.
    pub fn by_api_key(&self, secret: &str) -> Option<&Identity> {
        self.api_keys.get(secret).and_then(|id| self.identities.get(id))
    }

    /// The identity with this IAM id.
    pub fn by_id(&self, id: &str) -> Option<&Identity> {
        self.identities.get(id)
    }

    /// The identity with this name in the seed.
    pub fn by_name_mut(&mut self, name: &str) -> Option<&mut Identity> {
        self.identities.values_mut().find(|i| i.name == name)
    }

    /// Every identity.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.values()
    }

    /// Every identity, to be changed.
    pub fn identities_mut(&mut self) -> impl Iterator<Item = &mut Identity> {
        self.identities.values_mut()
    }

    /// The trusted profile that a token request names.
    pub fn profile(&self, id: Option<&str>, name: Option<&str>) -> Option<&service_account::TrustedProfile> {
        self.profiles.iter().find(|p| id.map_or_else(|| name == Some(p.name.as_str()), |id| id == p.id))
    }

    /// The number of the next token, above every number so far.
    pub fn next_serial(&mut self) -> u64 {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        self.issued = micros.max(self.issued + 1);
        self.issued
    }

    /// Refuses every token issued so far, to `name` or to all; says how many identities that meets.
    pub fn revoke_issued(&mut self, name: Option<&str>) -> usize {
        let through = self.next_serial();
        let named = self.identities.values_mut().filter(|i| name.is_none_or(|n| n == i.name));
        named.map(|identity| identity.revoked_through = through).count()
    }

    /// Refuses one token from now on.
    pub fn revoke_token(&mut self, jti: &str) {
        self.revoked.push(jti.to_owned());
    }

    /// Takes every revocation back.
    pub fn restore_all(&mut self) {
        self.revoked.clear();
        for identity in self.identities.values_mut() {
            identity.grants = identity.seeded.clone();
            identity.enabled = true;
            identity.revoked_through = 0;
        }
    }

    /// The identity that a token's claims stand for, unless the token was revoked or its identity is gone.
    pub fn bearer(&self, claims: &token::Claims, now: Seconds) -> Option<&Identity> {
        let identity = self.by_id(&claims.iam_id)?;
        let live = claims.exp > now
            && claims.serial > identity.revoked_through
            && !self.revoked.contains(&claims.jti);
        live.then_some(identity)
    }
}

/// A UUID that the name alone decides, so that audit records of two runs agree.
fn stable_id(name: &str) -> uuid::Uuid {
    use sha2::{Digest, Sha256};
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests;
