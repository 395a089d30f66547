//! The bodies of the Key Vault API, and nothing that is not used of them.
//!
//! Source: the REST reference of Key Vault, keys, 7.4. Invariant: an answer about another key or another version than the one that
//! was asked for is none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::blob::{Algorithm, Blob, VersionId};
use crate::error::ErrorKind;
use crate::key::{KeyInfo, KeyRef, KeyState, Origin, PlainKey, VersionInfo, Wrapped};
use crate::secret_text::{SecretText, plain_key_url_safe};

/// Body of a wrap.
#[derive(Serialize)]
pub(super) struct WrapBody {
    alg: &'static str,
    value: SecretText,
}

impl WrapBody {
    pub(super) fn new(algorithm: Algorithm, plain: &PlainKey) -> Self {
        Self { alg: algorithm.name(), value: SecretText::of_key_url_safe(plain) }
    }
}

/// Body of an unwrap.
#[derive(Serialize)]
pub(super) struct UnwrapBody {
    alg: &'static str,
    value: String,
}

impl UnwrapBody {
    pub(super) fn new(blob: &Blob<'_>) -> Self {
        Self { alg: blob.algorithm.name(), value: URL_SAFE_NO_PAD.encode(blob.sealed) }
    }
}

/// Answer to both.
#[derive(Deserialize)]
pub(super) struct OperationReply {
    kid: String,
    value: SecretText,
}

impl OperationReply {
    fn check(&self, name: &str, version: VersionId) -> Result<(), ErrorKind> {
        if version_of(&self.kid, name) == Some(version) {
            Ok(())
        } else {
            Err(ErrorKind::Integrity("it names another key version"))
        }
    }

    pub(super) fn plain(&self, name: &str, version: VersionId) -> Result<PlainKey, ErrorKind> {
        self.check(name, version)?;
        plain_key_url_safe(Some(&self.value))
    }

    pub(super) fn wrapped(
        &self,
        name: &str,
        version: VersionId,
        algorithm: Algorithm,
    ) -> Result<Wrapped, ErrorKind> {
        self.check(name, version)?;
        let sealed = URL_SAFE_NO_PAD
            .decode(self.value.expose())
            .map_err(|_| ErrorKind::Integrity("its wrapped key is not base64url"))?;
        Blob { algorithm, version, sealed: &sealed }.wrapped()
    }
}

/// The version that a key identifier names, `https://VAULT/keys/NAME/VERSION`, where it is one of this key.
fn version_of(kid: &str, name: &str) -> Option<VersionId> {
    let url = reqwest::Url::parse(kid).ok()?;
    let mut segments = url.path_segments()?;
    let (keys, of, version) = (segments.next()?, segments.next()?, segments.next()?);
    let whole = keys == "keys" && of.eq_ignore_ascii_case(name) && segments.next().is_none();
    whole.then(|| VersionId::parse(version)).flatten()
}

/// A key with its attributes.
#[derive(Deserialize)]
pub(super) struct KeyBody {
    key: WebKey,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct WebKey {
    kid: String,
    kty: String,
}

#[derive(Deserialize, Default)]
struct Attributes {
    enabled: Option<bool>,
    nbf: Option<i64>,
    exp: Option<i64>,
    created: Option<i64>,
}

fn time(seconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))
}

/// The current version of a key, as the vault sees it now.
pub(super) struct Current {
    pub(super) version: VersionId,
    kty: String,
    attributes: Attributes,
    /// The vault's own time: ours may be wrong.
    now: Option<Timestamp>,
}

impl KeyBody {
    pub(super) fn current(self, name: &str, now: Option<Timestamp>) -> Result<Current, ErrorKind> {
        let Self { key: WebKey { kid, kty }, attributes } = self;
        let version =
            version_of(&kid, name).ok_or(ErrorKind::Integrity("its key identifier is another one"))?;
        Ok(Current { version, kty, attributes, now })
    }
}

impl Current {
    pub(super) fn enabled(&self) -> bool {
        self.attributes.enabled != Some(false)
    }

    fn expired(&self) -> bool {
        self.now.zip(self.attributes.exp).is_some_and(|(now, exp)| now.as_second() >= exp)
    }

    /// Time until it may be used.
    fn too_early(&self) -> Option<Duration> {
        let wait = self.attributes.nbf?.saturating_sub(self.now?.as_second());
        u64::try_from(wait).ok().filter(|wait| *wait > 0).map(Duration::from_secs)
    }

    /// The algorithm that it wraps with now, if it may.
    pub(super) fn wraps(&self) -> Result<Algorithm, ErrorKind> {
        if !self.enabled() {
            return Err(ErrorKind::KeyDisabled);
        }
        if self.expired() {
            return Err(ErrorKind::KeyExpired);
        }
        if let Some(retry_after) = self.too_early() {
            return Err(ErrorKind::TooEarly { retry_after });
        }
        self.algorithm()
    }

    pub(super) fn algorithm(&self) -> Result<Algorithm, ErrorKind> {
        Algorithm::of_key_type(&self.kty).ok_or_else(|| {
            let kty: String = self.kty.chars().filter(char::is_ascii_graphic).take(32).collect();
            ErrorKind::Config(format!(
                "the root key is of type {kty}, which cannot wrap keys: make one of type RSA-HSM"
            ))
        })
    }

    /// Outside its time a key unwraps and wraps no more, before as after.
    pub(super) fn info(&self, key: &KeyRef, auto_rotation: Option<Duration>) -> KeyInfo {
        let state = if !self.enabled() {
            KeyState::Disabled
        } else if self.expired() || self.too_early().is_some() {
            KeyState::Expired
        } else {
            KeyState::Enabled
        };
        KeyInfo {
            id: key.clone(),
            state,
            current: Some(self.version.version()),
            rotated_at: self.attributes.created.and_then(time),
            expires_at: self.attributes.exp.and_then(time),
            // The vault does not tell; what it rotates by itself it makes itself.
            origin: Origin::Generated,
            auto_rotation,
        }
    }
}

/// A page of versions.
#[derive(Deserialize)]
pub(super) struct VersionPage {
    value: Vec<VersionItem>,
    #[serde(default, rename = "nextLink")]
    pub(super) next_link: Option<String>,
}

#[derive(Deserialize)]
struct VersionItem {
    kid: String,
    #[serde(default)]
    attributes: Attributes,
}

impl VersionPage {
    pub(super) fn versions(&self, name: &str) -> Result<Vec<VersionInfo>, ErrorKind> {
        let info = |item: &VersionItem| {
            let version = version_of(&item.kid, name)?;
            Some(VersionInfo {
                version: version.version(),
                created_at: item.attributes.created.and_then(time),
            })
        };
        let all: Option<Vec<VersionInfo>> = self.value.iter().map(info).collect();
        all.ok_or(ErrorKind::Integrity("its versions are of another key"))
    }
}

/// A deleted key that can be recovered.
#[derive(Deserialize)]
pub(super) struct DeletedBody {
    #[serde(rename = "scheduledPurgeDate")]
    scheduled_purge_date: Option<i64>,
}

impl DeletedBody {
    pub(super) fn state(&self) -> ErrorKind {
        ErrorKind::KeyPendingDeletion { until: self.scheduled_purge_date.and_then(time) }
    }
}

/// Body of a new key.
#[derive(Serialize)]
pub(super) struct NewKeyBody {
    kty: &'static str,
    key_size: u32,
    key_ops: [&'static str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Tags>,
}

#[derive(Serialize)]
struct Tags {
    description: String,
}

impl NewKeyBody {
    /// In hardware, of about the strength of the data keys, and for nothing else.
    pub(super) fn new(managed_hsm: bool, description: Option<&str>) -> Self {
        let (kty, key_size) = if managed_hsm { ("oct-HSM", 256) } else { ("RSA-HSM", 3072) };
        let tags = description.map(|description| Tags { description: description.to_owned() });
        Self { kty, key_size, key_ops: ["wrapKey", "unwrapKey"], tags }
    }
}

/// Body of a change of a version's state.
#[derive(Serialize)]
pub(super) struct StateBody {
    attributes: StateAttributes,
}

#[derive(Serialize)]
struct StateAttributes {
    enabled: bool,
}

impl StateBody {
    pub(super) fn new(enabled: bool) -> Self {
        Self { attributes: StateAttributes { enabled } }
    }
}
