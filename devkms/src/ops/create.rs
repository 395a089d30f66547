//! Making and importing keys. Invariant: a key exists only with material that was either made here or proven to be its sender's.

use serde::Deserialize;
use serde_json::json;

use super::aliases::check_alias;
use super::body::{SecretText, base64, one_resource};
use super::policies::{DualAuthBody, RotationBody, interval};
use super::{Call, Note, Reply, view};
use crate::access::Resource;
use crate::clock::parse_rfc3339;
use crate::error::{ApiError, Reason};
use crate::keys::import::Sent;
use crate::keys::key::Alias;
use crate::keys::{
    DEFAULT_RING, DualAuth, Instance, Key, Made, Material, PolicyStamp, RotationPolicy, Version,
};
use crate::service::Service;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewKey {
    #[serde(rename = "type")]
    _type: Option<String>,
    name: String,
    description: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    extractable: Option<bool>,
    expiration_date: Option<String>,
    payload: Option<SecretText>,
    encrypted_nonce: Option<String>,
    iv: Option<String>,
    encryption_algorithm: Option<String>,
    rotation: Option<RotationBody>,
    dual_auth_delete: Option<DualAuthBody>,
}

/// Key material that the caller brings, in the clear or through the import token.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Payload {
    #[serde(rename = "payload")]
    pub material: Option<SecretText>,
    pub encrypted_nonce: Option<String>,
    pub iv: Option<String>,
    pub encryption_algorithm: Option<String>,
}

/// Makes or imports a key; `overrides` where the body may carry policies.
pub fn create(
    service: &Service,
    call: &Call<'_>,
    note: &mut Note,
    overrides: bool,
) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    let ring = call.ring.unwrap_or(DEFAULT_RING);
    call.require(&Resource::Ring(call.instance, ring))?;
    let instance = call.instance_in(&state)?;
    if !instance.rings.contains_key(ring) {
        return Err(Reason::KeyRingNotFound.into());
    }
    let body: NewKey = one_resource(call.body)?;
    if !overrides && (body.rotation.is_some() || body.dual_auth_delete.is_some()) {
        return Err(Reason::BadBody.into());
    }
    let key = make(call, instance, body, ring)?;
    note.key = Some(key.id.clone());
    note.key_ring = Some(key.ring.clone());
    note.key_state = Some(key.state(call.now));
    note.key_version = key.current().map(|v| v.id.clone());
    let shown = if call.representation == Some(false) {
        json!({"type": view::KEY, "id": key.id})
    } else {
        view::key_with_payload(call.instance, &key, call.now, call.rules)
    };
    service.add_key(&mut state, call.instance, key)?;
    Ok(Reply::with(201, view::collection(view::KEY, vec![shown])))
}

fn make(call: &Call<'_>, instance: &Instance, body: NewKey, ring: &str) -> Result<Key, ApiError> {
    // The API makes a standard key of one that does not say.
    let extractable = body.extractable.unwrap_or(true);
    check_names(instance, &body)?;
    let expires = match body.expiration_date.as_deref() {
        Some(date) => Some(
            parse_rfc3339(date)
                .filter(|at| *at > call.now)
                .ok_or_else(|| ApiError::field("expirationDate"))?,
        ),
        None => None,
    };
    let made = Made { at: call.now, by: call.caller.id.clone() };
    let payload = Payload {
        material: body.payload,
        encrypted_nonce: body.encrypted_nonce,
        iv: body.iv,
        encryption_algorithm: body.encryption_algorithm,
    };
    let material = receive(call, instance, &payload, extractable)?;
    let (rotation, dual_auth) = starting_policies(
        call,
        instance,
        body.rotation.as_ref(),
        body.dual_auth_delete.as_ref(),
        extractable || material.is_some(),
    )?;
    let imported = material.is_some();
    let material = match material {
        Some(material) => material,
        None => Material::random().map_err(|_| Reason::Internal)?,
    };
    Ok(Key {
        id: uuid::Uuid::new_v4().to_string(),
        name: body.name,
        description: body.description,
        tags: body.tags,
        aliases: body.aliases.into_iter().map(|name| Alias { name, made: made.clone() }).collect(),
        extractable,
        imported,
        ring: ring.to_owned(),
        created: made,
        expires,
        suspended: None,
        deleted: None,
        updated: call.now,
        rotated: None,
        rotation,
        dual_auth,
        scheduled_deletion: None,
        versions: vec![Version::new(material, call.now)],
    })
}

/// The name, and aliases that the instance does not have yet.
fn check_names(instance: &Instance, body: &NewKey) -> Result<(), ApiError> {
    if body.name.is_empty() || body.name.chars().count() > 90 {
        return Err(ApiError::field("name"));
    }
    for (at, alias) in body.aliases.iter().enumerate() {
        check_alias(instance, alias)?;
        if body.aliases[..at].contains(alias) {
            return Err(Reason::AliasNotUnique.into());
        }
    }
    if body.aliases.len() > super::aliases::MAX_ALIASES {
        return Err(Reason::AliasLimit.into());
    }
    Ok(())
}

/// Takes the material of a body, where there is one; checks what the instance's `keyCreateImportAccess` policy says.
fn receive(
    call: &Call<'_>,
    instance: &Instance,
    payload: &Payload,
    extractable: bool,
) -> Result<Option<Material>, ApiError> {
    let allowed = |attribute| instance.policy_flag("keyCreateImportAccess", attribute, true);
    let attribute = match (payload.material.is_some(), extractable) {
        (false, false) => "create_root_key",
        (false, true) => "create_standard_key",
        (true, false) => "import_root_key",
        (true, true) => "import_standard_key",
    };
    let through_token = payload.encrypted_nonce.is_some();
    let token_needed = payload.material.is_some()
        && !through_token
        && instance.policy_flag("keyCreateImportAccess", "enforce_token", false);
    if !allowed(attribute) || token_needed {
        return Err(Reason::KeyCreateImportAccess.into());
    }
    payload.receive(call, instance, extractable)
}

impl Payload {
    /// The material, decrypted with the instance's import token where it came through one.
    pub fn receive(
        &self,
        call: &Call<'_>,
        instance: &Instance,
        extractable: bool,
    ) -> Result<Option<Material>, ApiError> {
        let Some(payload) = self.material.as_deref() else {
            let stray = self.encrypted_nonce.is_some() || self.iv.is_some();
            return if stray { Err(ApiError::field("payload")) } else { Ok(None) };
        };
        let bytes = base64("payload", payload)?;
        let Some(nonce) = &self.encrypted_nonce else {
            let material = Material::new(bytes.to_vec());
            let fits = if extractable { !material.expose().is_empty() } else { material.is_aes_key() };
            return if fits { Ok(Some(material)) } else { Err(ApiError::field("payload")) };
        };
        let sent = Sent {
            payload: bytes.to_vec(),
            encrypted_nonce: base64("encryptedNonce", nonce)?.to_vec(),
            iv: base64("iv", self.iv.as_deref().unwrap_or_default())?.to_vec(),
            algorithm: self.encryption_algorithm.clone(),
        };
        let token = instance.import_token.as_ref().ok_or(Reason::ImportTokenExpired)?;
        token.receive(&sent, call.now).map(Some)
    }
}

type Policies = (Option<RotationPolicy>, Option<DualAuth>);

/// The policies of a new key: the body's, else the instance's.
fn starting_policies(
    call: &Call<'_>,
    instance: &Instance,
    rotation: Option<&RotationBody>,
    dual: Option<&DualAuthBody>,
    fixed: bool,
) -> Result<Policies, ApiError> {
    let stamp = || PolicyStamp::touch(None, call.now, &call.caller.id);
    let rotation = match rotation {
        Some(_) if fixed => return Err(Reason::KeyPayloadRequired.into()),
        Some(wanted) => Some((wanted.enabled, interval(wanted)?)),
        None if fixed => None,
        None => instance_interval(instance).map(|months| (true, months)),
    };
    let dual = match dual {
        Some(wanted) => Some(wanted.enabled),
        None => instance.policies.get("dualAuthDelete").filter(|p| p.enabled).map(|_| true),
    };
    Ok((
        rotation.map(|(enabled, months)| RotationPolicy { enabled, months, stamp: stamp() }),
        dual.map(|enabled| DualAuth { enabled, stamp: stamp() }),
    ))
}

fn instance_interval(instance: &Instance) -> Option<u8> {
    let policy = instance.policies.get("rotation").filter(|p| p.enabled)?;
    policy.attributes.as_ref()?.get("interval_month")?.as_u64()?.try_into().ok()
}
