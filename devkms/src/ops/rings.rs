//! Key rings. Invariant: every key belongs to a ring that exists; the default ring always does.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::parse;
use super::listing::window;
use super::{Call, Note, Reply, view};
use crate::access::Resource;
use crate::clock::rfc3339;
use crate::error::{ApiError, Reason};
use crate::keys::{DEFAULT_RING, Made};
use crate::service::Service;

/// Every ring of the instance.
pub fn list(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let state = service.lock();
    call.require(&Resource::Some(call.instance))?;
    let rings = &call.instance_in(&state)?.rings;
    let shown = window(call, rings.iter(), 100)?
        .map(|(id, made)| json!({"id": id, "creationDate": rfc3339(made.at), "createdBy": made.by}))
        .collect();
    let total = call.flag("totalCount").then_some(rings.len());
    Ok(Reply::with(200, view::page("application/vnd.ibm.kms.key_ring+json", shown, total)))
}

/// Makes a ring.
pub fn create(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let id = ring_id(call)?;
    call.require(&Resource::Instance(call.instance))?;
    service.change_instance(&mut state, call.instance, |instance| {
        if instance.rings.contains_key(id) {
            return Err(Reason::KeyRingExists.into());
        }
        let made = Made { at: call.now, by: call.caller.id.clone() };
        instance.rings.insert(id.to_owned(), made);
        Ok(())
    })?;
    Ok(Reply { status: 201, ..Reply::default() })
}

/// Deletes a ring that holds no key; with `force` its destroyed keys move to the default ring.
pub fn delete(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let ring = ring_id(call)?;
    call.require(&Resource::Ring(call.instance, ring))?;
    let instance = call.instance_in(&state)?;
    if !instance.rings.contains_key(ring) {
        return Err(Reason::KeyRingNotFound.into());
    }
    let inside: Vec<_> = instance.keys.values().filter(|key| key.ring == ring).collect();
    let movable = call.flag("force") && inside.iter().all(|key| key.deleted.is_some());
    if !inside.is_empty() && !movable {
        return Err(Reason::KeyRingNotEmpty.into());
    }
    for key in &inside {
        call.may("kms.secrets.patch", &Resource::Key(call.instance, key))?;
    }
    let ids: Vec<String> = inside.iter().map(|key| key.id.clone()).collect();
    for id in ids {
        service.change_key(&mut state, call.instance, &id, |key| {
            DEFAULT_RING.clone_into(&mut key.ring);
            Ok(())
        })?;
    }
    service.change_instance(&mut state, call.instance, |instance| {
        instance.rings.remove(ring);
        Ok(Reply::empty())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    #[serde(rename = "keyRingID")]
    key_ring: String,
}

/// Moves a key to another ring.
pub fn patch_key(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let id = call.key_in(&state, note)?.id.clone();
    let patch: Patch = parse(call.body)?;
    if !call.instance_in(&state)?.rings.contains_key(&patch.key_ring) {
        return Err(Reason::KeyRingNotFound.into());
    }
    call.require(&Resource::Ring(call.instance, &patch.key_ring))?;
    service.change_key(&mut state, call.instance, &id, |key| {
        if key.deleted.is_some() {
            return Err(Reason::KeyDeleted.into());
        }
        key.ring = patch.key_ring;
        key.updated = call.now;
        let shown = Value::Object(view::key(call.instance, key, call.now, call.rules));
        Ok(Reply::with(200, view::collection(view::KEY, vec![shown])))
    })
}

fn ring_id<'c>(call: &'c Call<'_>) -> Result<&'c str, ApiError> {
    let id = call.target.subject.as_deref().unwrap_or_default();
    let letters = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !(2..=100).contains(&id.len()) || !letters || id == DEFAULT_RING {
        return Err(ApiError::field("keyRingID"));
    }
    Ok(id)
}
