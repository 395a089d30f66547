//! The bodies of the Transit API, and nothing that is not used of them.
//!
//! Source: the API documentation of OpenBao and HashiCorp Vault, Transit. Invariant: a blob that leaves or enters is
//! `vault:vN:base64` with N as the server writes it, so that a blob has one spelling and tells its version.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::call::EncCtx;
use crate::error::ErrorKind;
use crate::key::{
    ContextScheme, KeyInfo, KeyRef, KeyState, KeyVersion, Origin, PlainKey, VersionInfo, Wrapped,
};
use crate::secret_text::{SecretText, plain_key};

/// Every successful answer.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

/// Body of encrypt and datakey.
#[derive(Serialize)]
pub(super) struct WrapBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<SecretText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
}

impl WrapBody {
    pub(super) fn new(plain: Option<&PlainKey>, scheme: ContextScheme, ctx: &EncCtx) -> Self {
        Self { plaintext: plain.map(SecretText::of_key), context: context(scheme, ctx) }
    }
}

/// What a derived key is derived with; a key that is not derived would ignore it.
fn context(scheme: ContextScheme, ctx: &EncCtx) -> Option<String> {
    (scheme == ContextScheme::Derived).then(|| STANDARD.encode(ctx))
}

/// Body of decrypt and rewrap.
#[derive(Serialize)]
pub(super) struct BlobBody<'a> {
    ciphertext: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
}

/// A stored blob whose form is right.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    text: &'a str,
    version: u64,
    scheme: ContextScheme,
}

impl<'a> Blob<'a> {
    /// The stored blob is the text that the server once gave; anything else never came from it.
    pub(super) fn new(wrapped: &'a Wrapped) -> Result<Self, ErrorKind> {
        let text = std::str::from_utf8(&wrapped.blob).map_err(|_| ErrorKind::CiphertextInvalid)?;
        let version = version_of(text).ok_or(ErrorKind::CiphertextInvalid)?;
        match wrapped.scheme {
            ContextScheme::Derived | ContextScheme::None => {
                Ok(Self { text, version, scheme: wrapped.scheme })
            }
            ContextScheme::Aad | ContextScheme::EncryptionContext => Err(ErrorKind::CiphertextInvalid),
        }
    }

    pub(super) fn body(&self, ctx: &EncCtx) -> BlobBody<'a> {
        BlobBody { ciphertext: self.text, context: context(self.scheme, ctx) }
    }

    pub(super) fn version(&self) -> KeyVersion {
        KeyVersion(self.version.to_string())
    }
}

/// The version of a blob. The server reads `v0` as `v1`, and skips line breaks: for us neither is a blob.
fn version_of(text: &str) -> Option<u64> {
    let (digits, sealed) = text.strip_prefix("vault:v")?.split_once(':')?;
    let version: u64 = digits.parse().ok()?;
    let canonical = version > 0 && version.to_string() == digits;
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    (canonical && !sealed.is_empty() && sealed.bytes().all(base64)).then_some(version)
}

/// Answer to encrypt, datakey, decrypt and rewrap: which fields are there tells them apart.
#[derive(Deserialize)]
pub(super) struct CryptReply {
    plaintext: Option<SecretText>,
    ciphertext: Option<String>,
    key_version: Option<u64>,
}

impl CryptReply {
    pub(super) fn plain(&self) -> Result<PlainKey, ErrorKind> {
        plain_key(self.plaintext.as_ref())
    }

    pub(super) fn wrapped(self, scheme: ContextScheme) -> Result<Wrapped, ErrorKind> {
        let text = self.ciphertext.ok_or(ErrorKind::Integrity("it lacks the wrapped key"))?;
        let version = version_of(&text).ok_or(ErrorKind::Integrity("its wrapped key is malformed"))?;
        if self.key_version.is_some_and(|said| said != version) {
            return Err(ErrorKind::Integrity("it names two versions"));
        }
        let version = Some(KeyVersion(version.to_string()));
        Ok(Wrapped { blob: text.into_bytes(), version, scheme })
    }
}

/// Metadata of a key.
#[derive(Deserialize)]
pub(super) struct KeyBody {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    latest_version: u64,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    soft_deleted: bool,
    #[serde(default)]
    imported_key: bool,
    #[serde(default)]
    auto_rotate_period: u64,
    keys: BTreeMap<u64, Created>,
}

/// When a version was made; asymmetric keys say more, and wrap nothing here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Created {
    Seconds(u64),
    Other(serde::de::IgnoredAny),
}

impl Created {
    fn time(&self) -> Option<SystemTime> {
        match self {
            Self::Seconds(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(*seconds)),
            Self::Other(_) => None,
        }
    }
}

impl KeyBody {
    /// Only keys that encrypt and authenticate wrap others.
    pub(super) fn check(&self) -> Result<(), ErrorKind> {
        if self.latest_version == 0 {
            return Err(ErrorKind::Integrity("its key has no version"));
        }
        match self.kind.as_str() {
            "aes128-gcm96" | "aes256-gcm96" | "chacha20-poly1305" | "xchacha20-poly1305" => Ok(()),
            kind => Err(ErrorKind::Config(format!(
                "the root key is of type {}, which cannot wrap keys: make one of type aes256-gcm96",
                printable(kind)
            ))),
        }
    }

    pub(super) fn scheme(&self) -> ContextScheme {
        if self.derived { ContextScheme::Derived } else { ContextScheme::None }
    }

    pub(super) fn info(&self) -> KeyInfo {
        let current = KeyVersion(self.latest_version.to_string());
        let made = self.keys.get(&self.latest_version).and_then(Created::time);
        KeyInfo {
            id: KeyRef(self.name.clone()),
            state: if self.soft_deleted { KeyState::Disabled } else { KeyState::Enabled },
            current: Some(current),
            rotated_at: made.filter(|_| self.latest_version > 1),
            expires_at: None,
            origin: if self.imported_key { Origin::Imported } else { Origin::Generated },
            auto_rotation: (self.auto_rotate_period > 0)
                .then(|| Duration::from_secs(self.auto_rotate_period)),
        }
    }

    /// The current one first; versions that may not decrypt any more are not listed by the server.
    pub(super) fn versions(&self) -> Vec<VersionInfo> {
        let info = |(version, created): (&u64, &Created)| VersionInfo {
            version: KeyVersion(version.to_string()),
            created_at: created.time(),
        };
        self.keys.iter().rev().map(info).collect()
    }
}

/// What may stand in a message.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(32).collect()
}

/// Body of a question for what a token may do.
#[derive(Serialize)]
pub(super) struct PathsBody {
    pub(super) paths: Vec<String>,
}

/// What a token may do, by path. The server adds those of the first path under a name that is no path.
pub(super) type Capabilities = BTreeMap<String, Vec<String>>;

/// Body of a new key.
#[derive(Serialize)]
pub(super) struct NewKeyBody {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) derived: bool,
}

/// Body of a change of a key's own rotation.
#[derive(Serialize)]
pub(super) struct RotationBody {
    auto_rotate_period: String,
}

impl RotationBody {
    /// The server wants an hour at least; zero turns it off.
    pub(super) fn new(interval: Option<Duration>) -> Self {
        let seconds = interval.map_or(0, |interval| interval.as_secs().max(3600));
        Self { auto_rotate_period: format!("{seconds}s") }
    }
}
