//! Everything that there is: keys, people, roles, sessions, issuers of tokens, the time.
//!
//! Invariant: it is data; a snapshot of it is all that a restart needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{Clock, Millis, moment};
use crate::keys::{Key, arn_of};
use crate::policy::Policy;
use crate::{ACCOUNT, REGION};

/// A person or a program with access keys.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// The access key's id.
    pub access_key: String,
    /// The secret access key.
    pub secret: String,
    /// What it may.
    pub policies: Vec<Policy>,
}

/// A role that is taken with a token of an issuer.
#[derive(Clone, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Who may take it.
    pub trust: Policy,
    /// What it may.
    pub policies: Vec<Policy>,
}

/// A role that was taken.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) issued: Millis,
    pub(crate) ends: Millis,
}

/// What CloudTrail would hold of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// The action.
    pub name: String,
    /// Who called, by the header.
    pub user_agent: String,
    /// Why it was refused.
    pub error: Option<String>,
    /// The encryption context, where the call had one.
    pub encryption_context: Option<Value>,
}

/// An account with its keys.
#[derive(Default, Serialize, Deserialize)]
pub struct World {
    pub(crate) clock: Clock,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) users: Vec<User>,
    pub(crate) roles: Vec<Role>,
    pub(crate) sessions: Vec<Session>,
    /// By the address of the issuer: its keys, as a JWK set.
    pub(crate) issuers: BTreeMap<String, Value>,
    /// All calls so far.
    pub trail: Vec<Event>,
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key with this id.
    #[must_use]
    pub fn key(mut self, id: &str) -> Self {
        let key = Key::new(id, "", self.clock.now());
        self.keys.insert(id.into(), key);
        self
    }

    /// A user.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// A role.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// An issuer of tokens whose keys are `jwks`; its address is an https URL.
    #[must_use]
    pub fn issuer(mut self, address: &str, jwks: Value) -> Self {
        self.issuers.insert(address.into(), jwks);
        self
    }

    /// Lets time pass.
    pub fn advance(&mut self, millis: u64) {
        self.clock.advance(millis);
    }

    /// The keys that exist.
    pub fn keys(&mut self) -> impl Iterator<Item = &Key> {
        let now = self.clock.now();
        self.keys.retain(|_, key| key.age(now));
        self.keys.values()
    }

    /// Gives a key another name, `alias/…`.
    pub fn set_alias(&mut self, alias: &str, id: &str) {
        self.aliases.insert(alias.into(), id.into());
    }

    /// Replaces what a user or a role may.
    pub fn set_policies(&mut self, name: &str, policies: &[Policy]) {
        let users = self.users.iter_mut().filter(|user| user.name == name).map(|user| &mut user.policies);
        let roles = self.roles.iter_mut().filter(|role| role.name == name).map(|role| &mut role.policies);
        for held in users.chain(roles) {
            held.clear();
            held.extend_from_slice(policies);
        }
    }

    /// What AWS's console does to revoke the sessions of a role: older ones are denied everything from now on.
    pub fn revoke_sessions(&mut self, role: &str) {
        // Times have milliseconds: sessions of this very one are older than the next.
        self.clock.advance(1);
        let denied = json!({"Version": "2012-10-17", "Statement": [{
            "Sid": "RevokeOlderSessions", "Effect": "Deny", "Action": "*", "Resource": "*",
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": moment(self.clock.now()).to_string()}},
        }]});
        let policy: Policy = serde_json::from_value(denied).expect("it is one");
        for held in self.roles.iter_mut().filter(|held| held.name == role) {
            held.policies.push(policy.clone());
        }
    }

    /// All secrets that were ever given away.
    pub fn session_secrets(&self) -> Vec<String> {
        self.sessions.iter().flat_map(|session| [session.secret.clone(), session.token.clone()]).collect()
    }

    /// What is in a blob of any key, whoever asks.
    pub fn opened(&mut self, blob: &[u8], context: &BTreeMap<String, String>) -> Option<Vec<u8>> {
        self.keys().find_map(|key| key.open(blob, context)).map(|(plain, _)| plain)
    }

    /// The key that a caller means by an id or an ARN or, where that is allowed, an alias; `None`: nothing has this form.
    pub(crate) fn arn_meant(&self, name: &str, alias_allowed: bool) -> Option<String> {
        let bare = name.strip_prefix(&format!("arn:aws:kms:{REGION}:{ACCOUNT}:")).unwrap_or(name);
        if bare.starts_with("alias/") {
            return alias_allowed.then(|| self.aliases.get(bare).map(|id| arn_of(id))).flatten();
        }
        let id = match bare.strip_prefix("key/") {
            Some(id) => id,
            None if name.starts_with("arn:") => return None,
            None => bare,
        };
        uuid::Uuid::try_parse(id).ok().map(|_| arn_of(id))
    }

    /// The key with this ARN, as it is now.
    pub(crate) fn key_at(&mut self, arn: &str) -> Option<&mut Key> {
        let now = self.clock.now();
        let id = arn.rsplit('/').next()?;
        if !self.keys.get_mut(id)?.age(now) {
            self.keys.remove(id);
        }
        self.keys.get_mut(id)
    }
}
