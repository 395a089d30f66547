//! All that the service knows, as data: what a snapshot holds.
//!
//! Invariant: nothing else is remembered anywhere, so that a service that starts with a snapshot is the one that wrote it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::access::Binding;
use crate::account::{Account, AccountKey};
use crate::clock::Clock;
use crate::federation::Pool;
use crate::keys::{Key, State};
use crate::status::Status;
use crate::tokens::Tokens;

/// What happens to data on their way, so that checksums have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Damage {
    /// A bit of what was sent arrives as another one.
    Request,
    /// The checksums that were sent do not arrive.
    RequestChecksums,
    /// A bit of the answer's data arrives as another one.
    Answer,
    /// The answer's checksum does not arrive.
    AnswerChecksum,
    /// The answer is about another key.
    OtherKey,
}

/// The service's memory.
#[derive(Default, Serialize, Deserialize)]
pub struct World {
    pub(crate) clock: Clock,
    pub(crate) rings: BTreeSet<String>,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) accounts: BTreeMap<String, Account>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) tokens: Tokens,
    pub(crate) damage: Option<Damage>,
}

impl World {
    /// A key with one version, in a ring that is made for it.
    #[must_use]
    pub fn with_key(mut self, name: &str) -> Self {
        if let Some((ring, _)) = name.rsplit_once("/cryptoKeys/") {
            self.rings.insert(ring.to_owned());
        }
        self.keys.insert(name.to_owned(), Key::new(name, self.clock.now()));
        self
    }

    /// A service account that knows a key.
    #[must_use]
    pub fn with_account(mut self, email: &str, key: &AccountKey) -> Self {
        self.accounts.entry(email.to_owned()).or_default().keys.push(key.public.clone());
        self
    }

    /// A role of `member` on `resource` and all below it; a service account's resource is `serviceAccounts/EMAIL`.
    pub fn grant(&mut self, resource: &str, role: &str, member: &str) {
        self.bindings.push(Binding {
            resource: resource.to_owned(),
            role: role.to_owned(),
            member: member.to_owned(),
        });
    }

    /// Takes all roles of `member` away; how many there were.
    pub fn revoke(&mut self, member: &str) -> usize {
        let before = self.bindings.len();
        self.bindings.retain(|binding| binding.member != member);
        before - self.bindings.len()
    }

    /// Makes every token worthless; how many there were.
    pub fn revoke_tokens(&mut self) -> usize {
        self.tokens.revoke()
    }

    /// Lets time pass.
    pub fn advance(&mut self, seconds: u32) {
        self.clock.advance(seconds);
    }

    /// Seconds since 1970, by the service's clock.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Damages every exchange of data from now on, or none.
    pub fn damage(&mut self, damage: Option<Damage>) {
        self.damage = damage;
    }

    /// How many keys there are.
    pub fn count_keys(&self) -> usize {
        self.keys.len()
    }

    /// Believes the tokens of one more cluster.
    pub fn believe(&mut self, pool: Pool) {
        self.pools.push(pool);
    }

    /// Enables or disables a version.
    pub fn set_enabled(&mut self, key: &str, version: u64, enabled: bool) {
        let state = if enabled { State::Enabled } else { State::Disabled };
        self.keys.get_mut(key).unwrap().set_state(version, state).unwrap();
    }

    /// Disables every version of a key but the primary one, or enables it.
    pub fn retire_old_versions(&mut self, key: &str, retired: bool) {
        let known = self.keys.get(key).unwrap();
        let old: Vec<u64> =
            known.versions.iter().map(|version| version.id).filter(|id| Some(*id) != known.primary).collect();
        for id in old {
            self.set_enabled(key, id, !retired);
        }
    }

    /// What is sealed in a ciphertext of a key, for whoever needs no permission.
    pub fn opened(&self, key: &str, ciphertext: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        self.keys.get(key)?.decrypt(ciphertext, aad).ok().map(|(_, plaintext)| plaintext)
    }

    pub(crate) fn settle(&mut self) {
        let now = self.clock.now();
        for key in self.keys.values_mut() {
            key.settle(now);
        }
    }

    pub(crate) fn allow(
        &self,
        member: &str,
        permission: &str,
        resource: &str,
        service: &str,
    ) -> Result<(), Status> {
        if self.bindings.iter().any(|binding| binding.allows(member, permission, resource)) {
            return Ok(());
        }
        Err(Status::denied(permission, resource, service))
    }
}
