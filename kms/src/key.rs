//! Keys as the KMS sees them: root keys and their versions, wrapped and unwrapped data keys.
//!
//! Invariant: a [`PlainKey`] is zeroized when dropped, never printed, never serialized.

use std::fmt;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A root key's id or alias within its provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyRef(pub String);

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a root key version: opaque, compared only for equality.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyVersion(pub String);

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A data key or group key in plaintext, 32 bytes: on the heap, zeroized on drop.
pub struct PlainKey(SecretBox<[u8; 32]>);

impl PlainKey {
    /// From bytes that the caller holds (and zeroizes).
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut boxed = Box::new([0; 32]);
        boxed.copy_from_slice(bytes);
        Self(SecretBox::new(boxed))
    }

    /// From a slice; `None` where it is not 32 bytes long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }

    /// A new random key from the operating system.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut boxed = Box::new([0; 32]);
        getrandom::fill(boxed.as_mut_slice())?;
        Ok(Self(SecretBox::new(boxed)))
    }

    /// The key itself.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// A second zeroizing copy, for those who wait for one call together and for the cache.
    pub(crate) fn duplicate(&self) -> Self {
        Self::from_bytes(self.expose())
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey(..)")
    }
}

/// How the encryption context is bound to a wrapped key; recorded with it, because it must be given back alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContextScheme {
    /// Not bound by the KMS.
    None,
    /// Additional authenticated data (Key Protect, Google).
    Aad,
    /// The wrapping key is derived from it (Transit).
    Derived,
    /// A map that the KMS logs (AWS).
    EncryptionContext,
}

/// A wrapped data key. The root key that wrapped it is not part of it: it comes from the profile.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wrapped {
    /// What the KMS returned, byte for byte (Key Protect: the base64 text, about 240 bytes).
    pub blob: Vec<u8>,
    /// The root key version that wrapped it, where the KMS says it.
    pub version: Option<KeyVersion>,
    /// How the context is bound.
    pub scheme: ContextScheme,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped")
            .field("blob_len", &self.blob.len())
            .field("version", &self.version)
            .field("scheme", &self.scheme)
            .finish()
    }
}

/// The answer to an unwrap.
#[derive(Debug)]
pub struct Unwrapped {
    /// The data key.
    pub key: PlainKey,
    /// The version that it was wrapped with, where the KMS says it.
    pub used: Option<KeyVersion>,
    /// The same key wrapped with the current version, where the KMS gives it for free: store it.
    pub rewrapped: Option<Wrapped>,
    /// When the KMS was asked. A TTL counts from here: an answer out of the cache is older than it arrives.
    pub asked_at: Instant,
}

impl Unwrapped {
    pub(crate) fn duplicate(&self) -> Self {
        let Self { key, used, rewrapped, asked_at } = self;
        Self { key: key.duplicate(), used: used.clone(), rewrapped: rewrapped.clone(), asked_at: *asked_at }
    }
}

/// The state of a root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyState {
    /// Wraps and unwraps.
    Enabled,
    /// Refuses both, until its owner enables it.
    Disabled,
    /// Unwraps and rewraps, but no longer wraps.
    Expired,
    /// Refuses both; its owner can still take the deletion back.
    PendingDeletion,
    /// Refuses both; perhaps it can be restored for some days.
    Destroyed,
    /// Has no key material yet.
    PendingImport,
}

impl KeyState {
    /// The PascalCase word for conditions, check-ins and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::Expired => "Expired",
            Self::PendingDeletion => "PendingDeletion",
            Self::Destroyed => "Destroyed",
            Self::PendingImport => "PendingImport",
        }
    }

    /// Data keys can be unwrapped in this state; `false` means that every key of this root key must be dropped.
    pub fn unwraps(self) -> bool {
        matches!(self, Self::Enabled | Self::Expired)
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a root key's material was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// In the KMS.
    Generated,
    /// By its owner, then imported.
    Imported,
    /// In a key store outside the KMS.
    External,
}

/// A root key's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The canonical id, where an alias was asked for.
    pub id: KeyRef,
    /// Its state.
    pub state: KeyState,
    /// The version that wraps now.
    pub current: Option<KeyVersion>,
    /// When that version was made by a rotation.
    pub rotated_at: Option<SystemTime>,
    /// When the key will expire.
    pub expires_at: Option<SystemTime>,
    /// Where its material was made.
    pub origin: Origin,
    /// The KMS's own rotation interval, where it has one (a month counts 30 days).
    pub auto_rotation: Option<Duration>,
}

/// A version of a root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its id.
    pub version: KeyVersion,
    /// When it was made.
    pub created_at: Option<SystemTime>,
}

/// What a provider can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent abilities, not a state
pub struct Caps {
    /// The provider's name, as in `ProviderConfig`'s `kind`.
    pub provider: &'static str,
    /// How it binds the context.
    pub scheme: ContextScheme,
    /// The KMS makes data keys itself; otherwise they come from this machine's random source.
    pub native_generate: bool,
    /// The KMS rewraps without showing the data key, context included.
    pub native_rewrap: bool,
    /// An unwrap under a retired version brings a rewrapped key with it.
    pub rewrap_on_unwrap: bool,
    /// Every wrapped key tells its version.
    pub version_in_reply: bool,
    /// `versions` works.
    pub list_versions: bool,
    /// A single version can be disabled.
    pub per_version_state: bool,
    /// Time that must pass between two rotations.
    pub min_rotate_interval: Option<Duration>,
}
