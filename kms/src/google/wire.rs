//! The bodies of the Cloud KMS API, and nothing that is not used of them.
//!
//! Source: the REST reference of Cloud KMS v1. Bytes are base64, 64-bit numbers are strings, as the JSON form of protocol buffers
//! has it. Invariant: what comes back is believed only if its checksum is right and the service says that it checked ours.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::name;
use crate::call::EncCtx;
use crate::error::ErrorKind;
use crate::key::{
    ContextScheme, KeyInfo, KeyRef, KeyState, KeyVersion, Origin, PlainKey, VersionInfo, Wrapped,
};
use crate::secret_text::{SecretText, plain_key};

/// A CRC32C (Castagnoli), on the wire a decimal number in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crc32c(u32);

impl Crc32c {
    fn of(bytes: &[u8]) -> Self {
        Self(crc32c::crc32c(bytes))
    }
}

impl Serialize for Crc32c {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Crc32c {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Crc32c;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of 32 bits, in a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Crc32c, E> {
                text.parse().map(Crc32c).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Crc32c, E> {
                u32::try_from(number).map(Crc32c).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Body of encrypt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EncryptBody {
    plaintext: SecretText,
    additional_authenticated_data: String,
    plaintext_crc32c: Crc32c,
    additional_authenticated_data_crc32c: Crc32c,
}

impl EncryptBody {
    pub(super) fn new(plain: &PlainKey, ctx: &EncCtx) -> Self {
        Self {
            plaintext: SecretText::of_key(plain),
            additional_authenticated_data: STANDARD.encode(ctx),
            plaintext_crc32c: Crc32c::of(plain.expose()),
            additional_authenticated_data_crc32c: Crc32c::of(ctx),
        }
    }
}

/// Answer to encrypt. What is false is left out on the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EncryptReply {
    name: String,
    ciphertext: String,
    ciphertext_crc32c: Option<Crc32c>,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

impl EncryptReply {
    /// What is worth keeping: a key that was damaged on its way would be found out when it is needed, which is too late.
    pub(super) fn wrapped(&self, key: &KeyRef) -> Result<Wrapped, ErrorKind> {
        if !self.verified_plaintext_crc32c || !self.verified_additional_authenticated_data_crc32c {
            return Err(ErrorKind::Integrity("it did not check what it was sent"));
        }
        let version =
            name::version(&self.name, key).ok_or(ErrorKind::Integrity("it is about another key"))?;
        let blob = STANDARD
            .decode(&self.ciphertext)
            .map_err(|_| ErrorKind::Integrity("its wrapped key is not base64"))?;
        if blob.is_empty() {
            return Err(ErrorKind::Integrity("it lacks the wrapped key"));
        }
        checked(&blob, self.ciphertext_crc32c)?;
        Ok(Wrapped { blob, version: Some(version), scheme: ContextScheme::Aad })
    }
}

/// Body of decrypt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DecryptBody {
    ciphertext: String,
    additional_authenticated_data: String,
    ciphertext_crc32c: Crc32c,
    additional_authenticated_data_crc32c: Crc32c,
}

impl DecryptBody {
    /// Nothing was ever wrapped here without the context.
    pub(super) fn new(wrapped: &Wrapped, ctx: &EncCtx) -> Result<Self, ErrorKind> {
        if wrapped.scheme != ContextScheme::Aad || wrapped.blob.is_empty() {
            return Err(ErrorKind::CiphertextInvalid);
        }
        Ok(Self {
            ciphertext: STANDARD.encode(&wrapped.blob),
            additional_authenticated_data: STANDARD.encode(ctx),
            ciphertext_crc32c: Crc32c::of(&wrapped.blob),
            additional_authenticated_data_crc32c: Crc32c::of(ctx),
        })
    }
}

/// Answer to decrypt. It does not name the version that was used; it says only whether that was the primary one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DecryptReply {
    plaintext: Option<SecretText>,
    plaintext_crc32c: Option<Crc32c>,
    #[serde(default)]
    pub(super) used_primary: bool,
}

impl DecryptReply {
    pub(super) fn plain(&self) -> Result<PlainKey, ErrorKind> {
        let key = plain_key(self.plaintext.as_ref())?;
        checked(key.expose(), self.plaintext_crc32c)?;
        Ok(key)
    }
}

fn checked(bytes: &[u8], said: Option<Crc32c>) -> Result<(), ErrorKind> {
    match said {
        None => Err(ErrorKind::Integrity("it lacks a checksum")),
        Some(said) if said == Crc32c::of(bytes) => Ok(()),
        Some(_) => Err(ErrorKind::Integrity("its checksum is another one")),
    }
}

/// Metadata of a key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyBody {
    name: String,
    purpose: String,
    pub(super) primary: Option<VersionBody>,
    rotation_period: Option<String>,
}

/// Metadata of a version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionBody {
    pub(super) name: String,
    state: String,
    protection_level: Option<String>,
    create_time: Option<String>,
    destroy_time: Option<String>,
    import_job: Option<String>,
}

impl KeyBody {
    /// Only keys that encrypt and decrypt with one secret wrap others.
    pub(super) fn check(&self, asked: &KeyRef) -> Result<(), ErrorKind> {
        if !name::same_key(&self.name, &asked.0) {
            return Err(ErrorKind::Integrity("it is about another key"));
        }
        if self.purpose != "ENCRYPT_DECRYPT" {
            return Err(ErrorKind::Config(format!(
                "the root key is of purpose {}, which cannot wrap keys: make one with --purpose=encryption",
                name::printable(&self.purpose)
            )));
        }
        Ok(())
    }

    /// The service has no state of a key: what the key can do is what its primary version can.
    pub(super) fn state(&self) -> Result<KeyState, ErrorKind> {
        self.primary.as_ref().map_or(Ok(KeyState::PendingImport), VersionBody::state)
    }

    /// The version that wraps now.
    pub(super) fn current(&self) -> Option<KeyVersion> {
        self.primary.as_ref().and_then(VersionBody::version)
    }

    pub(super) fn info(self) -> Result<KeyInfo, ErrorKind> {
        let (state, current) = (self.state()?, self.current());
        let primary = self.primary.as_ref();
        let first = current.as_ref().is_none_or(|version| version.0 == "1");
        Ok(KeyInfo {
            state,
            rotated_at: primary.filter(|_| !first).and_then(VersionBody::created_at),
            current,
            expires_at: None,
            origin: primary.map_or(Origin::Generated, VersionBody::origin),
            auto_rotation: self.rotation_period.as_deref().and_then(seconds),
            id: KeyRef(self.name),
        })
    }
}

impl VersionBody {
    pub(super) fn state(&self) -> Result<KeyState, ErrorKind> {
        match self.state.as_str() {
            "ENABLED" => Ok(KeyState::Enabled),
            "DISABLED" => Ok(KeyState::Disabled),
            "DESTROY_SCHEDULED" => Ok(KeyState::PendingDeletion),
            "DESTROYED" | "PENDING_EXTERNAL_DESTRUCTION" | "EXTERNAL_DESTRUCTION_FAILED" => {
                Ok(KeyState::Destroyed)
            }
            "PENDING_GENERATION" | "PENDING_IMPORT" | "IMPORT_FAILED" | "GENERATION_FAILED" => {
                Ok(KeyState::PendingImport)
            }
            _ => Err(ErrorKind::Integrity("its version is in a state that is not known")),
        }
    }

    pub(super) fn version(&self) -> Option<KeyVersion> {
        self.name.rsplit_once("/cryptoKeyVersions/").map(|(_, id)| KeyVersion(id.to_owned()))
    }

    /// When a version that waits for its destruction is destroyed.
    pub(super) fn destroyed_at(&self) -> Option<SystemTime> {
        self.destroy_time.as_deref().and_then(time)
    }

    fn created_at(&self) -> Option<SystemTime> {
        self.create_time.as_deref().and_then(time)
    }

    fn origin(&self) -> Origin {
        match self.protection_level.as_deref() {
            Some("EXTERNAL" | "EXTERNAL_VPC") => Origin::External,
            _ if self.import_job.is_some() => Origin::Imported,
            _ => Origin::Generated,
        }
    }
}

/// A page of versions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionPage {
    #[serde(default)]
    pub(super) crypto_key_versions: Vec<VersionBody>,
    #[serde(default)]
    pub(super) next_page_token: String,
}

/// The versions that still have material, or will have it: `current` first, then from the newest to the oldest.
pub(super) fn listed(
    all: Vec<VersionBody>,
    current: Option<&KeyVersion>,
) -> Result<Vec<VersionInfo>, ErrorKind> {
    let mut listed = Vec::new();
    for body in all {
        let version = body.version().ok_or(ErrorKind::Integrity("it lists something that is no version"))?;
        if body.state()? != KeyState::Destroyed {
            listed.push(VersionInfo { created_at: body.created_at(), version });
        }
    }
    let number = |info: &VersionInfo| info.version.0.parse::<u64>().unwrap_or_default();
    listed.sort_by_key(|info| (Some(&info.version) != current, std::cmp::Reverse(number(info))));
    Ok(listed)
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// A duration as protocol buffers write it: `2592000s`, perhaps with a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let whole = number.split_once('.').map_or(number, |(whole, _)| whole);
    whole.parse().ok().map(Duration::from_secs)
}

/// Body of a new key.
#[derive(Serialize)]
pub(super) struct NewKeyBody {
    pub(super) purpose: &'static str,
}

/// Body of a request that says everything in its address.
#[derive(Serialize)]
pub(super) struct NoBody {}

/// Body of a change of the primary version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrimaryBody<'a> {
    pub(super) crypto_key_version_id: &'a str,
}

/// Body of a change of a version's state.
#[derive(Serialize)]
pub(super) struct StateBody {
    pub(super) state: &'static str,
}

/// Body of a change of a key's own rotation; without its fields it is turned off.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotationBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_time: Option<String>,
}

impl RotationBody {
    /// The service wants a day at least, and the time of the next rotation besides.
    pub(super) fn new(interval: Option<Duration>, now: jiff::Timestamp) -> Self {
        let days = interval.map(|interval| interval.as_secs().clamp(86_400, 876_000 * 3600));
        let next = days.and_then(|days| now.checked_add(Duration::from_secs(days)).ok());
        Self {
            rotation_period: days.map(|days| format!("{days}s")),
            next_rotation_time: next.map(|next| next.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        }
    }
}
