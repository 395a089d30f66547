//! What changes a key's state or versions. Invariant: each transition follows the service's state table and its waiting times.

use serde_json::{Value, json};

use super::body::parse_or_default;
use super::create::Payload;
use super::wrapping::require_root;
use super::{Call, Note, Reply, view};
use crate::error::{ApiError, Reason};
use crate::keys::{Deletion, Key, KeyState, Material, ScheduledDeletion};
use crate::service::Service;

/// Finds the key, then changes it; the note tells the state afterwards.
fn change<T>(
    service: &Service,
    call: &Call<'_>,
    note: &mut Note,
    f: impl FnOnce(&mut Key) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let mut state = service.lock();
    let id = call.key_in(&state, note)?.id.clone();
    service.change_key(&mut state, call.instance, &id, |key| {
        let result = f(key)?;
        note.key_state = Some(key.state(call.now));
        Ok(result)
    })
}

/// A new version: made here, or brought by the owner of an imported key.
pub fn rotate(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let key = call.key_in(&state, note)?;
    require_root(key)?;
    in_state(key, call, &[KeyState::Active, KeyState::Deactivated])?;
    let body: Payload = parse_or_default(call.body)?;
    let brought = body.receive(call, call.instance_in(&state)?, false)?;
    let material = match (key.imported, brought) {
        (true, None) => return Err(Reason::KeyPayloadRequired.into()),
        (false, Some(_)) => return Err(ApiError::field("payload")),
        (true, Some(material)) => material,
        (false, None) => Material::random().map_err(|_| Reason::Internal)?,
    };
    if key.rotated.is_some_and(|at| call.now < at + call.rules.rotation_interval) {
        return Err(Reason::RotationNotPermitted.into());
    }
    let id = key.id.clone();
    service.change_key(&mut state, call.instance, &id, |key| {
        key.rotate(material, call.now);
        note.key_version = key.current().map(|v| v.id.clone());
        Ok(())
    })?;
    Ok(Reply::empty())
}

/// Active → Suspended.
pub fn disable(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    change(service, call, note, |key| {
        require_root(key)?;
        in_state(key, call, &[KeyState::Active])?;
        key.suspended = Some(call.now);
        key.updated = call.now;
        Ok(Reply::empty())
    })
}

/// Suspended → Active, 30 s after it was disabled at the earliest.
pub fn enable(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    change(service, call, note, |key| {
        require_root(key)?;
        in_state(key, call, &[KeyState::Suspended])?;
        if key.suspended.is_some_and(|at| call.now < at + call.rules.enable_delay) {
            return Err(Reason::TooEarly.into());
        }
        key.suspended = None;
        key.updated = call.now;
        Ok(Reply::empty())
    })
}

/// The first of two authorizations to delete.
pub fn set_for_deletion(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    change(service, call, note, |key| {
        not_deleted(key)?;
        if !key.needs_dual_auth() {
            return Err(Reason::NotDualAuth.into());
        }
        key.scheduled_deletion = Some(ScheduledDeletion { at: call.now, by: call.caller.id.clone() });
        Ok(Reply::empty())
    })
}

/// Takes that authorization back.
pub fn unset_for_deletion(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    change(service, call, note, |key| {
        not_deleted(key)?;
        if !key.needs_dual_auth() {
            return Err(Reason::NotDualAuth.into());
        }
        key.scheduled_deletion = None;
        Ok(Reply::empty())
    })
}

/// Anything but Destroyed → Destroyed; with dual authorization by another identity than the one that scheduled it.
pub fn delete(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let shown = change(service, call, note, |key| {
        not_deleted(key)?;
        let authorized = key.deletion_authorized(call.now).is_some_and(|s| s.by != call.caller.id);
        if key.needs_dual_auth() && !authorized {
            return Err(Reason::AuthorizationsNotMet.into());
        }
        key.deleted = Some(Deletion { at: call.now, by: call.caller.id.clone() });
        key.scheduled_deletion = None;
        key.updated = call.now;
        Ok(Value::Object(view::key(call.instance, key, call.now, call.rules)))
    })?;
    Ok(represented(call, shown))
}

/// Destroyed → what it was, within 30 days and 30 s after the deletion at the earliest.
pub fn restore(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let shown = change(service, call, note, |key| {
        let Some(deletion) = &key.deleted else {
            return Err(Reason::KeyActionInvalidState.into());
        };
        if call.now < deletion.at + call.rules.restore_delay {
            return Err(Reason::TooEarly.into());
        }
        if call.now >= deletion.at + call.rules.restore_window {
            return Err(Reason::KeyRestoreExpired.into());
        }
        key.deleted = None;
        key.updated = call.now;
        Ok(Value::Object(view::key(call.instance, key, call.now, call.rules)))
    })?;
    let shown = if call.representation == Some(false) {
        json!({"type": view::KEY, "id": shown["id"]})
    } else {
        shown
    };
    Ok(Reply::with(201, view::collection(view::KEY, vec![shown])))
}

/// Drops a destroyed key for good, four hours after the deletion at the earliest.
pub fn purge(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let key = call.key_in(&state, note)?;
    let Some(deletion) = &key.deleted else {
        return Err(Reason::KeyActionInvalidState.into());
    };
    if call.now < deletion.at + call.rules.purge_delay {
        return Err(Reason::TooEarly.into());
    }
    let (id, shown) = (key.id.clone(), Value::Object(view::key(call.instance, key, call.now, call.rules)));
    service.purge_key(&mut state, call.instance, &id)?;
    Ok(represented(call, shown))
}

/// Tells integrated services about the key; there are none here.
pub fn sync(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    require_root(call.key_in(&state, note)?)?;
    Ok(Reply::empty())
}

/// 204 unless the caller prefers to see what went.
fn represented(call: &Call<'_>, shown: Value) -> Reply {
    if call.representation == Some(true) {
        Reply::with(200, view::collection(view::KEY, vec![shown]))
    } else {
        Reply::empty()
    }
}

fn in_state(key: &Key, call: &Call<'_>, allowed: &[KeyState]) -> Result<(), ApiError> {
    not_deleted(key)?;
    if allowed.contains(&key.state(call.now)) { Ok(()) } else { Err(Reason::KeyActionInvalidState.into()) }
}

fn not_deleted(key: &Key) -> Result<(), ApiError> {
    if key.deleted.is_some() { Err(Reason::KeyDeleted.into()) } else { Ok(()) }
}
