//! Aliases: second names of keys. Invariant: an alias names one key of its instance and cannot be mistaken for a key id or a path.

use serde_json::json;

use super::{Call, Note, Reply, view};
use crate::clock::rfc3339;
use crate::error::{ApiError, Reason};
use crate::keys::key::Alias;
use crate::keys::{Instance, KeyState, Made};
use crate::service::Service;

/// More than this many a key cannot have.
pub const MAX_ALIASES: usize = 5;

const RESERVED: [&str; 16] = [
    "allowed_ip",
    "key",
    "keys",
    "metadata",
    "policy",
    "policies",
    "registration",
    "registrations",
    "ring",
    "rings",
    "rotate",
    "wrap",
    "unwrap",
    "rewrap",
    "version",
    "versions",
];

/// 2 to 90 letters, digits, `-` and `_`; not a UUID, not reserved, not taken.
pub fn check_alias(instance: &Instance, alias: &str) -> Result<(), ApiError> {
    let letters = alias.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !(2..=90).contains(&alias.len())
        || !letters
        || RESERVED.contains(&alias)
        || uuid::Uuid::parse_str(alias).is_ok()
    {
        return Err(ApiError::field("alias"));
    }
    if instance.resolve(alias).is_some() {
        return Err(Reason::AliasNotUnique.into());
    }
    Ok(())
}

/// Gives a key one more name.
pub fn create(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let key = call.key_in(&state, note)?;
    if key.state(call.now) == KeyState::Destroyed {
        return Err(Reason::KeyDeleted.into());
    }
    let alias = call.target.alias.clone().unwrap_or_default();
    check_alias(call.instance_in(&state)?, &alias)?;
    if key.aliases.len() >= MAX_ALIASES {
        return Err(Reason::AliasLimit.into());
    }
    let id = key.id.clone();
    let made = Made { at: call.now, by: call.caller.id.clone() };
    let shown = json!({"keyId": id, "alias": alias, "createdBy": made.by, "creationDate": rfc3339(made.at)});
    service.change_key(&mut state, call.instance, &id, |key| {
        key.aliases.push(Alias { name: alias, made });
        Ok(())
    })?;
    Ok(Reply::with(201, view::collection("application/vnd.ibm.kms.alias+json", vec![shown])))
}

/// Takes one name away; the key stays.
pub fn delete(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let id = call.key_in(&state, note)?.id.clone();
    service.change_key(&mut state, call.instance, &id, |key| {
        let before = key.aliases.len();
        key.aliases.retain(|a| Some(a.name.as_str()) != call.target.alias.as_deref());
        if key.aliases.len() == before { Err(Reason::AliasNotFound.into()) } else { Ok(Reply::empty()) }
    })
}
