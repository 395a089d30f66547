//! Policies of one key: rotation and dual authorization for deletion. Invariant: only a root key whose material is made here rotates by itself.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::resources;
use super::{Call, Note, Reply, view};
use crate::clock::rfc3339;
use crate::error::{ApiError, Reason};
use crate::keys::{DualAuth, Key, KeyState, PolicyStamp, RotationPolicy};
use crate::service::Service;

/// `rotation` of a policy body.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationBody {
    #[serde(default = "yes")]
    pub enabled: bool,
    pub interval_month: Option<u8>,
}

/// `dualAuthDelete` of a policy body.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DualAuthBody {
    pub enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyBody {
    #[serde(rename = "type")]
    _type: Option<String>,
    rotation: Option<RotationBody>,
    dual_auth_delete: Option<DualAuthBody>,
}

fn yes() -> bool {
    true
}

/// The interval in months, 1 to 12; a disabled policy may leave it out.
pub fn interval(body: &RotationBody) -> Result<u8, ApiError> {
    match body.interval_month {
        Some(months @ 1..=12) => Ok(months),
        None if !body.enabled => Ok(1),
        _ => Err(ApiError::field("interval_month")),
    }
}

/// Sets one or both policies.
pub fn put(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let id = call.key_in(&state, note)?.id.clone();
    let bodies: Vec<PolicyBody> = resources(call.body)?;
    for body in &bodies {
        check_query(call, body)?;
    }
    service.change_key(&mut state, call.instance, &id, |key| {
        match key.state(call.now) {
            KeyState::Active => {}
            KeyState::Destroyed => return Err(Reason::KeyDeleted.into()),
            _ => return Err(Reason::KeyActionInvalidState.into()),
        }
        for body in &bodies {
            apply(key, call, body)?;
        }
        Ok(())
    })?;
    shown(call, &state, &id)
}

/// The policies of a key, or the one that `policy` names.
pub fn get(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let id = call.key_in(&state, note)?.id.clone();
    shown(call, &state, &id)
}

fn check_query(call: &Call<'_>, body: &PolicyBody) -> Result<(), ApiError> {
    let fits = match call.query.get("policy").map(String::as_str) {
        Some("rotation") => body.rotation.is_some() && body.dual_auth_delete.is_none(),
        Some("dualAuthDelete") => body.dual_auth_delete.is_some() && body.rotation.is_none(),
        Some(_) => return Err(ApiError::field("policy")),
        None => body.rotation.is_some() || body.dual_auth_delete.is_some(),
    };
    if fits { Ok(()) } else { Err(Reason::QueryMismatch.into()) }
}

fn apply(key: &mut Key, call: &Call<'_>, body: &PolicyBody) -> Result<(), ApiError> {
    if let Some(rotation) = &body.rotation {
        super::wrapping::require_root(key)?;
        if key.imported {
            return Err(Reason::KeyPayloadRequired.into());
        }
        let stamp = PolicyStamp::touch(key.rotation.as_ref().map(|r| &r.stamp), call.now, &call.caller.id);
        key.rotation = Some(RotationPolicy { enabled: rotation.enabled, months: interval(rotation)?, stamp });
    }
    if let Some(dual) = &body.dual_auth_delete {
        let stamp = PolicyStamp::touch(key.dual_auth.as_ref().map(|d| &d.stamp), call.now, &call.caller.id);
        key.dual_auth = Some(DualAuth { enabled: dual.enabled, stamp });
        if !dual.enabled {
            key.scheduled_deletion = None;
        }
    }
    Ok(())
}

fn shown(call: &Call<'_>, state: &crate::service::State, id: &str) -> Result<Reply, ApiError> {
    let key = call.instance_in(state)?.keys.get(id).ok_or(Reason::KeyNotFound)?;
    let wanted = |name: &str| call.query.get("policy").is_none_or(|p| p == name);
    let entry = |stamp: &PolicyStamp, name: &str, value: Value| {
        let mut out = view::stamp(stamp);
        out.insert("id".to_owned(), json!(stamp.id));
        out.insert("crn".to_owned(), json!(view::crn(call.instance, "policy", &stamp.id)));
        out.insert("lastUpdateDate".to_owned(), json!(rfc3339(stamp.updated.at)));
        out.insert("type".to_owned(), json!(view::POLICY));
        out.insert(name.to_owned(), value);
        Value::Object(out)
    };
    let mut out = vec![];
    if let Some(r) = key.rotation.as_ref().filter(|_| wanted("rotation")) {
        out.push(entry(&r.stamp, "rotation", json!({"enabled": r.enabled, "interval_month": r.months})));
    }
    if let Some(d) = key.dual_auth.as_ref().filter(|_| wanted("dualAuthDelete")) {
        out.push(entry(&d.stamp, "dualAuthDelete", json!({"enabled": d.enabled})));
    }
    Ok(Reply::with(200, view::collection(view::POLICY, out)))
}
