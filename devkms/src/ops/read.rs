//! Reading one key. Invariant: material leaves only through `get`, and only that of an active standard key.

use serde_json::{Value, json};

use super::listing::window;
use super::wrapping::require_root;
use super::{Call, Note, Reply, view};
use crate::access::Resource;
use crate::clock::rfc3339;
use crate::error::{ApiError, Reason};
use crate::keys::KeyState;
use crate::service::Service;

/// The key, with the payload of a standard key.
pub fn get(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let key = call.key_in(&state, note)?;
    let shown = view::key_with_payload(call.instance, key, call.now, call.rules);
    Ok(Reply::with(200, view::collection(view::KEY, vec![shown])))
}

/// Everything but material, in every state.
pub fn metadata(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let key = call.key_in(&state, note)?;
    let shown = Value::Object(view::key(call.instance, key, call.now, call.rules));
    Ok(Reply::with(200, view::collection(view::KEY, vec![shown])))
}

/// The versions of a root key, newest first.
pub fn versions(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let key = call.key_in(&state, note)?;
    require_root(key)?;
    if key.state(call.now) != KeyState::Active && !call.flag("allKeyStates") {
        return Err(Reason::KeyActionInvalidState.into());
    }
    let all = key.versions.iter().rev();
    let shown =
        window(call, all, 200)?.map(|v| json!({"id": v.id, "creationDate": rfc3339(v.created)})).collect();
    let total = call.flag("totalCount").then_some(key.versions.len());
    Ok(Reply::with(200, view::page("application/vnd.ibm.kms.key.version+json", shown, total)))
}

/// Registrations are made by IBM's own services, so there are none.
pub fn registrations(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    if call.target.subject.is_some() {
        call.key_in(&state, note)?;
    } else {
        call.require(&Resource::Some(call.instance))?;
        call.instance_in(&state)?;
    }
    let total = call.flag("totalCount").then_some(0);
    Ok(Reply::with(200, view::page("application/vnd.ibm.kms.registration+json", vec![], total)))
}
