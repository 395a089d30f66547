//! The operations of the API, each in the file of its subject. Invariant: permission is checked before anything about a key is revealed.

mod aliases;
mod body;
mod create;
mod import_token;
mod instance_policies;
mod lifecycle;
mod listing;
mod policies;
mod read;
mod rings;
mod view;
mod wrapping;

use std::collections::HashMap;

use serde_json::Value;

use crate::access::{Identity, Resource};
use crate::clock::Seconds;
use crate::config::Rules;
use crate::error::{ApiError, Reason};
use crate::keys::{Instance, Key, KeyState};
use crate::route::{Op, Target};
use crate::service::{Service, State};

/// One call, as far as operations look at it.
pub struct Call<'a> {
    pub target: &'a Target,
    pub query: &'a HashMap<String, String>,
    pub body: &'a [u8],
    pub instance: &'a str,
    /// `X-Kms-Key-Ring`.
    pub ring: Option<&'a str>,
    /// `Prefer: return=…`: true for `representation`, false for `minimal`.
    pub representation: Option<bool>,
    pub caller: &'a Identity,
    pub now: Seconds,
    pub rules: Rules,
}

/// A successful answer.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub body: Option<Value>,
    /// The count of a HEAD request.
    pub key_total: Option<usize>,
}

impl Reply {
    fn with(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), key_total: None }
    }

    fn empty() -> Self {
        Self { status: 204, ..Self::default() }
    }
}

/// What the audit trail says about a call besides its outcome.
#[derive(Debug, Clone, Default)]
pub struct Note {
    pub key: Option<String>,
    pub key_ring: Option<String>,
    pub key_state: Option<KeyState>,
    pub key_version: Option<String>,
    pub rewrapped_version: Option<String>,
}

impl Call<'_> {
    /// The refusal of a missing permission.
    pub fn denied(&self) -> ApiError {
        denied(self.rules)
    }

    fn require(&self, what: &Resource<'_>) -> Result<(), ApiError> {
        self.may(self.target.op.action(), what)
    }

    fn may(&self, action: &str, what: &Resource<'_>) -> Result<(), ApiError> {
        if self.caller.may(action, what) { Ok(()) } else { Err(self.denied()) }
    }

    fn instance_in<'s>(&self, state: &'s State) -> Result<&'s Instance, ApiError> {
        state.instances.get(self.instance).ok_or_else(|| self.denied())
    }

    /// The key of this call, found by id or alias in the ring that the caller named, if permitted.
    fn key_in<'s>(&self, state: &'s State, note: &mut Note) -> Result<&'s Key, ApiError> {
        let reference = self.target.subject.as_deref().unwrap_or_default();
        let found = self.instance_in(state)?.resolve(reference);
        let Some(key) = found.filter(|key| self.ring.is_none_or(|ring| ring == key.ring)) else {
            // Whoever may act on some keys only must not learn which others exist.
            self.require(&Resource::Instance(self.instance))?;
            return Err(Reason::KeyNotFound.into());
        };
        note.key = Some(key.id.clone());
        note.key_ring = Some(key.ring.clone());
        note.key_state = Some(key.state(self.now));
        self.require(&Resource::Key(self.instance, key))?;
        Ok(key)
    }

    fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|v| v == "true" || v.is_empty())
    }
}

/// The refusal of a missing permission, under the status that the rules name.
pub fn denied(rules: Rules) -> ApiError {
    if rules.denied_status == 403 { Reason::Forbidden.into() } else { Reason::Unauthorized.into() }
}

/// Carries out a call.
pub fn perform(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    match call.target.op {
        Op::CountKeys => listing::count(service, call),
        Op::ListKeys => listing::list(service, call),
        Op::CreateKey => create::create(service, call, note, false),
        Op::CreateKeyWithPolicies => create::create(service, call, note, true),
        Op::GetKey => read::get(service, call, note),
        Op::GetMetadata => read::metadata(service, call, note),
        Op::ListVersions => read::versions(service, call, note),
        Op::ListRegistrations => read::registrations(service, call, note),
        Op::PatchKey => rings::patch_key(service, call, note),
        Op::DeleteKey => lifecycle::delete(service, call, note),
        Op::PurgeKey => lifecycle::purge(service, call, note),
        Op::RestoreKey => lifecycle::restore(service, call, note),
        Op::Wrap => wrapping::wrap(service, call, note),
        Op::Unwrap => wrapping::unwrap(service, call, note),
        Op::Rewrap => wrapping::rewrap(service, call, note),
        Op::Rotate => lifecycle::rotate(service, call, note),
        Op::Enable => lifecycle::enable(service, call, note),
        Op::Disable => lifecycle::disable(service, call, note),
        Op::SetForDeletion => lifecycle::set_for_deletion(service, call, note),
        Op::UnsetForDeletion => lifecycle::unset_for_deletion(service, call, note),
        Op::Sync => lifecycle::sync(service, call, note),
        Op::PutPolicies => policies::put(service, call, note),
        Op::GetPolicies => policies::get(service, call, note),
        Op::PutInstancePolicies => instance_policies::put(service, call),
        Op::GetInstancePolicies => instance_policies::get(service, call),
        Op::GetAllowedIpPort => instance_policies::allowed_ip_port(service, call),
        Op::CreateImportToken => import_token::create(service, call),
        Op::GetImportToken => import_token::get(service, call),
        Op::CreateAlias => aliases::create(service, call, note),
        Op::DeleteAlias => aliases::delete(service, call, note),
        Op::ListRings => rings::list(service, call),
        Op::CreateRing => rings::create(service, call),
        Op::DeleteRing => rings::delete(service, call),
        Op::Kmip => Err(Reason::NotOffered.into()),
        Op::Token | Op::Unknown => Err(Reason::RouteNotFound.into()),
    }
}
