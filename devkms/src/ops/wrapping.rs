//! Wrap, unwrap, rewrap. Invariant: only the current version wraps; a retired one only opens, and the caller then gets the fresh ciphertext.

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::body::{SecretText, base64, check_aad, encode, parse, parse_or_default};
use super::{Call, Note, Reply};
use crate::error::{ApiError, Reason};
use crate::keys::{Key, KeyState, Material, Version, wrap as wire};
use crate::service::Service;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrapBody {
    plaintext: Option<SecretText>,
    aad: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenBody {
    ciphertext: String,
    #[serde(default)]
    aad: Vec<String>,
}

/// Wraps the caller's data key, or one that is made here and returned in the clear this once.
pub fn wrap(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let key = call.key_in(&state, note)?;
    require_root(key)?;
    match key.state(call.now) {
        KeyState::Active => {}
        KeyState::Deactivated => return Err(Reason::KeyExpired.into()),
        KeyState::Suspended => return Err(Reason::KeyActionInvalidState.into()),
        KeyState::Destroyed => return Err(Reason::KeyDeleted.into()),
    }
    let body: WrapBody = parse_or_default(call.body)?;
    check_aad(&body.aad)?;
    let given = body.plaintext.as_deref().filter(|p| !p.is_empty());
    let plaintext = match given {
        Some(text) => base64("plaintext", text)?,
        None => Zeroizing::new(Material::random().map_err(|_| Reason::Internal)?.expose().to_vec()),
    };
    let version = current(key)?;
    note.key_version = Some(version.id.clone());
    let ciphertext = wire::wrap(&version.material, &plaintext, &body.aad).map_err(|_| Reason::Internal)?;
    let mut out = json!({"ciphertext": ciphertext, "keyVersion": {"id": version.id}});
    if given.is_none() {
        out["plaintext"] = json!(encode(&plaintext));
    }
    Ok(Reply::with(200, out))
}

/// Opens a ciphertext; under a retired version the reply also carries it wrapped anew.
pub fn unwrap(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let key = call.key_in(&state, note)?;
    if key.state(call.now) == KeyState::Destroyed {
        return Err(ApiError::gone());
    }
    let opened = open(call, key, note)?;
    let mut out = json!({"plaintext": encode(&opened.plaintext), "keyVersion": {"id": opened.version.id}});
    let current = current(key)?;
    if current.id != opened.version.id {
        rewrapped(current, &opened, note, &mut out)?;
    }
    Ok(Reply::with(200, out))
}

/// Wraps anew without ever showing the data key.
pub fn rewrap(service: &Service, call: &Call<'_>, note: &mut Note) -> Result<Reply, ApiError> {
    let state = service.lock();
    let key = call.key_in(&state, note)?;
    let opened = open(call, key, note)?;
    let mut out = json!({"keyVersion": {"id": opened.version.id}});
    rewrapped(current(key)?, &opened, note, &mut out)?;
    Ok(Reply::with(200, out))
}

struct Opened<'k> {
    plaintext: Zeroizing<Vec<u8>>,
    version: &'k Version,
    aad: Vec<String>,
}

fn open<'k>(call: &Call<'_>, key: &'k Key, note: &mut Note) -> Result<Opened<'k>, ApiError> {
    require_root(key)?;
    match key.state(call.now) {
        KeyState::Active | KeyState::Deactivated => {}
        KeyState::Suspended => return Err(Reason::KeyActionInvalidState.into()),
        KeyState::Destroyed => return Err(Reason::KeyDeleted.into()),
    }
    let body: OpenBody = parse(call.body)?;
    check_aad(&body.aad)?;
    let unopened = || -> ApiError {
        if call.rules.bad_ciphertext_status == 400 {
            Reason::BadCiphertext.into()
        } else {
            Reason::UnprocessableCiphertext.into()
        }
    };
    let json = base64("ciphertext", &body.ciphertext)?;
    let sealed = wire::parse(&json).map_err(|_| unopened())?;
    let version = key.version_of(&sealed.handle).ok_or_else(unopened)?;
    let plaintext = sealed.open(&version.material, &body.aad).map_err(|_| unopened())?;
    note.key_version = Some(version.id.clone());
    Ok(Opened { plaintext, version, aad: body.aad })
}

fn rewrapped(
    current: &Version,
    opened: &Opened<'_>,
    note: &mut Note,
    out: &mut Value,
) -> Result<(), ApiError> {
    let ciphertext =
        wire::wrap(&current.material, &opened.plaintext, &opened.aad).map_err(|_| Reason::Internal)?;
    note.rewrapped_version = Some(current.id.clone());
    out["ciphertext"] = json!(ciphertext);
    out["rewrappedKeyVersion"] = json!({"id": current.id});
    Ok(())
}

fn current(key: &Key) -> Result<&Version, ApiError> {
    key.current().ok_or_else(|| Reason::Internal.into())
}

pub(super) fn require_root(key: &Key) -> Result<(), ApiError> {
    if key.extractable { Err(Reason::KeyRootRequired.into()) } else { Ok(()) }
}
