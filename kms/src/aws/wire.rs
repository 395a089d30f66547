//! The bodies of the AWS KMS API, and nothing that is not used of them.
//!
//! Source: the AWS KMS API reference, 2014-11-01. Invariant: a wrapped key is kept as the bytes that AWS gave, and its version is
//! what AWS says of the material that wrapped it: its id or, for a key that has but one material for ever, the key's ARN.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::call::EncCtx;
use crate::error::ErrorKind;
use crate::key::{
    ContextScheme, KeyInfo, KeyRef, KeyState, KeyVersion, Origin, PlainKey, VersionInfo, Wrapped,
};
use crate::secret_text::{SecretText, plain_key};

/// What AWS takes for a wrapped key.
const LONGEST_BLOB: usize = 6144;
const DAY: u64 = 24 * 60 * 60;

/// The encryption context. AWS logs it; it is a hash.
#[derive(Clone, Serialize)]
pub(super) struct Context {
    #[serde(rename = "cofferdam-context")]
    hash: String,
}

impl Context {
    fn new(ctx: &EncCtx) -> Self {
        Self { hash: URL_SAFE_NO_PAD.encode(ctx) }
    }
}

/// A body that only names a key.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OfKey<'a> {
    pub(super) key_id: &'a str,
}

/// Body of `GenerateDataKey`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GenerateBody<'a> {
    key_id: &'a str,
    key_spec: &'static str,
    encryption_context: Context,
}

impl<'a> GenerateBody<'a> {
    pub(super) fn new(key: &'a KeyRef, ctx: &EncCtx) -> Self {
        Self { key_id: &key.0, key_spec: "AES_256", encryption_context: Context::new(ctx) }
    }
}

/// Body of `Encrypt`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptBody<'a> {
    key_id: &'a str,
    plaintext: SecretText,
    encryption_context: Context,
}

impl<'a> EncryptBody<'a> {
    pub(super) fn new(key: &'a KeyRef, plain: &PlainKey, ctx: &EncCtx) -> Self {
        let (plaintext, encryption_context) = (SecretText::of_key(plain), Context::new(ctx));
        Self { key_id: &key.0, plaintext, encryption_context }
    }
}

/// Body of `Decrypt`. It names the key, so that the blob of another one is refused.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DecryptBody<'a> {
    key_id: &'a str,
    ciphertext_blob: String,
    encryption_context: Context,
}

impl<'a> DecryptBody<'a> {
    pub(super) fn new(key: &'a KeyRef, blob: &[u8], ctx: &EncCtx) -> Self {
        Self { key_id: &key.0, ciphertext_blob: STANDARD.encode(blob), encryption_context: Context::new(ctx) }
    }
}

/// Body of `ReEncrypt` from a key to itself.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReEncryptBody<'a> {
    ciphertext_blob: String,
    source_key_id: &'a str,
    source_encryption_context: Context,
    destination_key_id: &'a str,
    destination_encryption_context: Context,
}

impl<'a> ReEncryptBody<'a> {
    pub(super) fn new(key: &'a KeyRef, blob: &[u8], ctx: &EncCtx) -> Self {
        Self {
            ciphertext_blob: STANDARD.encode(blob),
            source_key_id: &key.0,
            source_encryption_context: Context::new(ctx),
            destination_key_id: &key.0,
            destination_encryption_context: Context::new(ctx),
        }
    }
}

/// The bytes of a stored key, where they can be AWS's.
pub(super) fn blob_of(wrapped: &Wrapped) -> Result<&[u8], ErrorKind> {
    let fits = (1..=LONGEST_BLOB).contains(&wrapped.blob.len());
    let ours = wrapped.scheme == ContextScheme::EncryptionContext;
    if fits && ours { Ok(&wrapped.blob) } else { Err(ErrorKind::CiphertextInvalid) }
}

/// Answer to `GenerateDataKey`, `Encrypt`, `Decrypt` and `ReEncrypt`: which fields are there tells them apart.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CryptReply {
    key_id: String,
    plaintext: Option<SecretText>,
    ciphertext_blob: Option<String>,
    key_material_id: Option<String>,
    destination_key_material_id: Option<String>,
}

impl CryptReply {
    pub(super) fn plain(&self) -> Result<PlainKey, ErrorKind> {
        plain_key(self.plaintext.as_ref())
    }

    /// The version of what `GenerateDataKey` wrapped or `Decrypt` unwrapped.
    pub(super) fn used(&self) -> Result<KeyVersion, ErrorKind> {
        version(self.key_material_id.as_ref(), &self.key_id)
    }

    pub(super) fn blob(&self) -> Result<Vec<u8>, ErrorKind> {
        let text = self.ciphertext_blob.as_ref().ok_or(ErrorKind::Integrity("it lacks the wrapped key"))?;
        let blob =
            STANDARD.decode(text).map_err(|_| ErrorKind::Integrity("its wrapped key is not base64"))?;
        let fits = (1..=LONGEST_BLOB).contains(&blob.len());
        if fits { Ok(blob) } else { Err(ErrorKind::Integrity("its wrapped key is of no usable length")) }
    }

    /// What `GenerateDataKey` wrapped.
    pub(super) fn generated(&self) -> Result<Wrapped, ErrorKind> {
        Ok(wrapped(self.blob()?, self.used()?))
    }

    /// What `ReEncrypt` wrapped.
    pub(super) fn moved(&self) -> Result<Wrapped, ErrorKind> {
        let version = version(self.destination_key_material_id.as_ref(), &self.key_id)?;
        Ok(wrapped(self.blob()?, version))
    }
}

fn wrapped(blob: Vec<u8>, version: KeyVersion) -> Wrapped {
    Wrapped { blob, version: Some(version), scheme: ContextScheme::EncryptionContext }
}

/// Keys that cannot be rotated have one material for ever, which AWS does not name.
fn version(material: Option<&String>, key: &str) -> Result<KeyVersion, ErrorKind> {
    let text = material.map_or(key, String::as_str);
    let usable = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if usable {
        Ok(KeyVersion(text.to_owned()))
    } else {
        Err(ErrorKind::Integrity("it does not say which key material it is about"))
    }
}

/// Answer to `DescribeKey` and `CreateKey`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyReply {
    pub(super) key_metadata: KeyBody,
}

/// Metadata of a key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyBody {
    pub(super) arn: String,
    pub(super) key_state: String,
    key_usage: String,
    #[serde(default = "symmetric")]
    key_spec: String,
    origin: Option<String>,
    current_key_material_id: Option<String>,
    creation_date: Option<f64>,
    deletion_date: Option<f64>,
    valid_to: Option<f64>,
}

/// What keys were before there were others.
fn symmetric() -> String {
    SYMMETRIC.to_owned()
}

const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";

/// AWS counts seconds, with a fraction.
fn time(seconds: Option<f64>) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds?).ok()?)
}

impl KeyBody {
    pub(super) fn key(&self) -> KeyRef {
        KeyRef(self.arn.clone())
    }

    pub(super) fn deleted_at(&self) -> Option<SystemTime> {
        time(self.deletion_date)
    }

    pub(super) fn created_at(&self) -> Option<SystemTime> {
        time(self.creation_date)
    }

    /// Only keys that encrypt and authenticate wrap others.
    pub(super) fn check(&self) -> Result<(), ErrorKind> {
        if self.key_usage == "ENCRYPT_DECRYPT" && self.key_spec == SYMMETRIC {
            return Ok(());
        }
        Err(ErrorKind::Config(format!(
            "the root key is a {} for {}, which cannot wrap keys: make a symmetric encryption key",
            printable(&self.key_spec),
            printable(&self.key_usage)
        )))
    }

    pub(super) fn state(&self) -> Result<KeyState, ErrorKind> {
        match self.key_state.as_str() {
            // While a multi-Region key changes its primary, it can be used.
            "Enabled" | "Updating" => Ok(KeyState::Enabled),
            "Disabled" => Ok(KeyState::Disabled),
            "PendingDeletion" | "PendingReplicaDeletion" => Ok(KeyState::PendingDeletion),
            "PendingImport" => Ok(KeyState::PendingImport),
            _ => Err(ErrorKind::Integrity("its key is in a state that passes or that nobody knows")),
        }
    }

    /// The version that wraps now.
    pub(super) fn current(&self) -> Result<KeyVersion, ErrorKind> {
        version(self.current_key_material_id.as_ref(), &self.arn)
    }

    /// Its material can change: AWS made it, in its own store.
    pub(super) fn rotates_by_itself(&self) -> bool {
        self.origin.as_deref() == Some("AWS_KMS")
    }

    /// What `DescribeKey` tells; rotations are told elsewhere.
    pub(super) fn info(&self) -> Result<KeyInfo, ErrorKind> {
        self.check()?;
        let state = self.state()?;
        Ok(KeyInfo {
            id: self.key(),
            state,
            current: if state == KeyState::PendingImport { None } else { Some(self.current()?) },
            rotated_at: None,
            expires_at: time(self.valid_to),
            origin: match self.origin.as_deref() {
                None | Some("AWS_KMS") => Origin::Generated,
                Some("EXTERNAL") => Origin::Imported,
                Some(_) => Origin::External,
            },
            auto_rotation: None,
        })
    }
}

/// Body of `ListKeyRotations`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListBody<'a> {
    pub(super) key_id: &'a str,
    pub(super) include_key_material: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) marker: Option<String>,
}

/// A page of versions.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationsPage {
    pub(super) rotations: Vec<RotationBody>,
    pub(super) next_marker: Option<String>,
    #[serde(default)]
    pub(super) truncated: bool,
}

/// A version.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationBody {
    key_material_id: Option<String>,
    key_material_state: Option<String>,
    rotation_date: Option<f64>,
}

/// The versions that wrap or wrapped, the current one first; the first one was made with the key.
pub(super) fn versions(
    key: &KeyBody,
    listed: Vec<RotationBody>,
) -> Result<Vec<(VersionInfo, bool)>, ErrorKind> {
    let mut versions = Vec::with_capacity(listed.len());
    for RotationBody { key_material_id, key_material_state, rotation_date } in listed {
        let current = match key_material_state.as_deref() {
            Some("CURRENT") => true,
            Some("NON_CURRENT") => false,
            // Imported, and not yet in use.
            _ => continue,
        };
        let material = key_material_id.ok_or(ErrorKind::Integrity("it lists a version that has no name"))?;
        let created_at = time(rotation_date).or_else(|| key.created_at());
        let rotated = rotation_date.is_some();
        let info = VersionInfo { version: version(Some(&material), &key.arn)?, created_at };
        versions.push((!current, std::cmp::Reverse(created_at), info, rotated));
    }
    versions.sort_by_key(|version| (version.0, version.1));
    match versions.first() {
        Some((false, ..)) => Ok(versions.into_iter().map(|(_, _, info, rotated)| (info, rotated)).collect()),
        _ => Err(ErrorKind::Integrity("it lists no current version")),
    }
}

/// Answer to `GetKeyRotationStatus`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationStatus {
    key_rotation_enabled: bool,
    rotation_period_in_days: Option<u64>,
}

impl RotationStatus {
    /// The interval; a year where none is said.
    pub(super) fn interval(&self) -> Option<Duration> {
        let days = self.rotation_period_in_days.unwrap_or(365);
        self.key_rotation_enabled.then(|| Duration::from_secs(days.saturating_mul(DAY)))
    }
}

/// Body of `EnableKeyRotation`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationPeriodBody<'a> {
    key_id: &'a str,
    rotation_period_in_days: u64,
}

impl<'a> RotationPeriodBody<'a> {
    /// AWS knows whole days, from 90 to 2560 of them.
    pub(super) fn new(key: &'a KeyRef, interval: Duration) -> Result<Self, ErrorKind> {
        let days = interval.as_secs().div_ceil(DAY);
        if (90..=2560).contains(&days) {
            return Ok(Self { key_id: &key.0, rotation_period_in_days: days });
        }
        Err(ErrorKind::Config(format!(
            "aws rotates a key every 90 to 2560 days, not every {days}: choose another interval, or let the operator rotate"
        )))
    }
}

/// Body of `CreateKey`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateBody {
    pub(super) description: String,
}

/// Body of `ScheduleKeyDeletion`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeletionBody<'a> {
    pub(super) key_id: &'a str,
    pub(super) pending_window_in_days: u8,
}

/// What may stand in a message.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(32).collect()
}
