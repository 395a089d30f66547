//! The bodies of the Key Protect API, version 2, and nothing that is not used of them.
//!
//! Source: IBM Cloud API docs, Key Protect. Invariant: base64 is applied here, exactly once, and plaintext passes
//! through zeroizing memory only.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::call::EncCtx;
use crate::error::ErrorKind;
use crate::key::{
    ContextScheme, KeyInfo, KeyRef, KeyState, KeyVersion, Origin, PlainKey, VersionInfo, Wrapped,
};
use crate::secret_text::{SecretText, plain_key};

pub(super) const WRAP: &str = "application/vnd.ibm.kms.key_action_wrap+json";
pub(super) const UNWRAP: &str = "application/vnd.ibm.kms.key_action_unwrap+json";
pub(super) const REWRAP: &str = "application/vnd.ibm.kms.key_action_rewrap+json";
pub(super) const ROTATE: &str = "application/vnd.ibm.kms.key_action_rotate+json";
pub(super) const KEY: &str = "application/vnd.ibm.kms.key+json";
pub(super) const POLICY: &str = "application/vnd.ibm.kms.policy+json";

/// Key Protect's month, for rotation policies.
const MONTH: Duration = Duration::from_hours(30 * 24);
/// How long a deleted key can be restored.
const RESTORABLE: Duration = Duration::from_hours(30 * 24);

/// The additional authenticated data of a context: one string of 43 characters, base64url of the hash.
pub(super) fn aad(ctx: &EncCtx) -> [String; 1] {
    [URL_SAFE_NO_PAD.encode(ctx)]
}

/// Body of wrap; without plaintext the service makes a data key of 32 bytes.
#[derive(Serialize)]
pub(super) struct WrapBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<SecretText>,
    aad: [String; 1],
}

impl WrapBody {
    pub(super) fn new(plain: Option<&PlainKey>, ctx: &EncCtx) -> Self {
        Self { plaintext: plain.map(SecretText::of_key), aad: aad(ctx) }
    }
}

/// Body of unwrap and rewrap.
#[derive(Serialize)]
pub(super) struct CiphertextBody<'a> {
    ciphertext: &'a str,
    aad: [String; 1],
}

impl<'a> CiphertextBody<'a> {
    /// The stored blob is the text that the service once gave; anything else never came from it.
    pub(super) fn new(wrapped: &'a Wrapped, ctx: &EncCtx) -> Result<Self, ErrorKind> {
        let text = std::str::from_utf8(&wrapped.blob).ok().filter(|text| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        });
        match (wrapped.scheme, text) {
            (ContextScheme::Aad, Some(ciphertext)) => Ok(Self { ciphertext, aad: aad(ctx) }),
            _ => Err(ErrorKind::CiphertextInvalid),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionBody {
    id: String,
    creation_date: Option<String>,
}

/// Answer to wrap, unwrap and rewrap: which fields are there tells them apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionReply {
    plaintext: Option<SecretText>,
    ciphertext: Option<String>,
    key_version: Option<VersionBody>,
    rewrapped_key_version: Option<VersionBody>,
}

impl ActionReply {
    pub(super) fn plain(&self) -> Result<PlainKey, ErrorKind> {
        plain_key(self.plaintext.as_ref())
    }

    /// The version that the given or new ciphertext was wrapped with before.
    pub(super) fn used(&self) -> Option<KeyVersion> {
        self.key_version.as_ref().map(|version| KeyVersion(version.id.clone()))
    }

    /// The ciphertext of wrap.
    pub(super) fn wrapped(self) -> Result<Wrapped, ErrorKind> {
        let version = self.used();
        wrapped(self.ciphertext, version)
    }

    /// The ciphertext that rewrap gives, under the version that it says.
    pub(super) fn rewrapped(self) -> Result<Wrapped, ErrorKind> {
        let version = self.rewrapped_key_version.or(self.key_version).map(|version| KeyVersion(version.id));
        wrapped(self.ciphertext, version)
    }

    /// The ciphertext that unwrap gives where the version was retired.
    pub(super) fn rewrapped_on_unwrap(self) -> Option<Wrapped> {
        let version = KeyVersion(self.rewrapped_key_version?.id);
        wrapped(self.ciphertext, Some(version)).ok()
    }
}

fn wrapped(ciphertext: Option<String>, version: Option<KeyVersion>) -> Result<Wrapped, ErrorKind> {
    let text =
        ciphertext.filter(|text| !text.is_empty()).ok_or(ErrorKind::Integrity("it lacks the wrapped key"))?;
    if version.is_none() {
        return Err(ErrorKind::Integrity("it lacks the key version"));
    }
    Ok(Wrapped { blob: text.into_bytes(), version, scheme: ContextScheme::Aad })
}

/// An answer with one list of resources.
#[derive(Deserialize)]
pub(super) struct Collection<T> {
    pub(super) resources: Vec<T>,
}

impl<T> Collection<T> {
    pub(super) fn single(self) -> Result<T, ErrorKind> {
        let mut resources = self.resources.into_iter();
        match (resources.next(), resources.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(ErrorKind::Integrity("it does not hold one resource")),
        }
    }
}

impl From<VersionBody> for VersionInfo {
    fn from(body: VersionBody) -> Self {
        Self { version: KeyVersion(body.id), created_at: body.creation_date.as_deref().and_then(time) }
    }
}

#[derive(Deserialize)]
pub(super) struct RotationBody {
    #[serde(default)]
    enabled: Option<bool>,
    interval_month: Option<u32>,
}

/// Metadata of a key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyBody {
    id: String,
    state: u8,
    #[serde(default)]
    extractable: Option<bool>,
    #[serde(default)]
    imported: Option<bool>,
    key_version: Option<VersionBody>,
    last_rotate_date: Option<String>,
    expiration_date: Option<String>,
    deletion_date: Option<String>,
    rotation: Option<RotationBody>,
}

impl KeyBody {
    pub(super) fn id(self) -> KeyRef {
        KeyRef(self.id)
    }

    /// Until when a deleted key can be restored.
    pub(super) fn recoverable_until(&self) -> Option<SystemTime> {
        time(self.deletion_date.as_deref()?)?.checked_add(RESTORABLE)
    }

    /// Key Protect's numbers follow NIST SP 800-57.
    pub(super) fn state(&self) -> Result<KeyState, ErrorKind> {
        match self.state {
            0 => Ok(KeyState::PendingImport),
            1 => Ok(KeyState::Enabled),
            2 => Ok(KeyState::Disabled),
            3 => Ok(KeyState::Expired),
            5 => Ok(KeyState::Destroyed),
            _ => Err(ErrorKind::Integrity("it names a key state that is not known")),
        }
    }

    pub(super) fn info(self) -> Result<KeyInfo, ErrorKind> {
        if self.extractable == Some(true) {
            return Err(ErrorKind::Config("the key is a standard key, not a root key".into()));
        }
        let state = self.state()?;
        let auto_rotation = self
            .rotation
            .filter(|rotation| rotation.enabled != Some(false))
            .and_then(|rotation| rotation.interval_month)
            .map(|months| MONTH * months);
        Ok(KeyInfo {
            state,
            id: KeyRef(self.id),
            current: self.key_version.map(|version| KeyVersion(version.id)),
            rotated_at: self.last_rotate_date.as_deref().and_then(time),
            expires_at: self.expiration_date.as_deref().and_then(time),
            origin: if self.imported == Some(true) { Origin::Imported } else { Origin::Generated },
            auto_rotation,
        })
    }
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// A list with the metadata that the API wants.
#[derive(Serialize)]
pub(super) struct Envelope<T> {
    metadata: EnvelopeMetadata,
    resources: [T; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeMetadata {
    collection_type: &'static str,
    collection_total: u8,
}

impl<T> Envelope<T> {
    pub(super) fn new(collection_type: &'static str, resource: T) -> Self {
        Self { metadata: EnvelopeMetadata { collection_type, collection_total: 1 }, resources: [resource] }
    }
}

/// A root key to be made.
#[derive(Serialize)]
pub(super) struct NewKeyBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    extractable: bool,
}

impl<'a> NewKeyBody<'a> {
    pub(super) fn root(name: &'a str, description: Option<&'a str>) -> Self {
        Self { kind: KEY, name, description, extractable: false }
    }
}

/// A rotation policy.
#[derive(Serialize)]
pub(super) struct PolicyBody {
    #[serde(rename = "type")]
    kind: &'static str,
    rotation: PolicyRotation,
}

#[derive(Serialize)]
struct PolicyRotation {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_month: Option<u32>,
}

/// A rotation policy that none can be made of: its number of months is a word.
#[derive(Serialize)]
pub(super) struct NeverPolicyBody {
    #[serde(rename = "type")]
    kind: &'static str,
    rotation: NeverRotation,
}

#[derive(Serialize)]
struct NeverRotation {
    enabled: bool,
    interval_month: &'static str,
}

impl NeverPolicyBody {
    pub(super) fn new() -> Self {
        Self { kind: POLICY, rotation: NeverRotation { enabled: true, interval_month: "never" } }
    }
}

impl PolicyBody {
    /// Rounded up to months of 30 days, 1 to 12.
    pub(super) fn rotation(interval: Option<Duration>) -> Self {
        let interval_month =
            interval.map(|wanted| (wanted.as_secs().div_ceil(MONTH.as_secs())).clamp(1, 12) as u32);
        Self { kind: POLICY, rotation: PolicyRotation { enabled: interval.is_some(), interval_month } }
    }
}
