//! A wrapped key as it stands in a key slot: who wrapped it, under which version, and the wrapped bytes.
//!
//! Invariant: what was parsed encodes to the same bytes, fields of a later revision included, so that a rewrap by an
//! older program loses nothing. Text fields are printable ASCII: they go into logs and metrics.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::context::KmsContext;
use crate::ids::{FileId, VolumeId};
use crate::local_wrap::LocalWrap;
use crate::wire::{Reader, put_field};

const PROVIDER: u16 = 1;
const WRAPPING: u16 = 2;
const CONTEXT: u16 = 3;
const ROOT_KEY: u16 = 4;
const VERSION: u16 = 5;
const BLOB: u16 = 6;
const LOCAL: u16 = 7;

/// Why bytes or fields are not a wrapped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrappedKeyError {
    /// A length points past the end, or fields are out of order or repeated.
    #[error("the fields of a wrapped key are malformed")]
    Malformed,
    /// A field that every wrapped key has is not there.
    #[error("field {0} of a wrapped key is missing")]
    Missing(u16),
    /// A field has a value that the format does not allow.
    #[error("field {0} of a wrapped key has a value that is not allowed")]
    Value(u16),
}

/// Which KMS wrapped a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// IBM Key Protect.
    KeyProtect,
    /// HashiCorp Vault or OpenBao Transit.
    Transit,
    /// AWS Key Management Service.
    AwsKms,
    /// Google Cloud KMS.
    GoogleKms,
    /// Azure Key Vault or Managed HSM.
    AzureKeyVault,
    /// A PKCS#11 token.
    Pkcs11,
    /// A provider of a later revision, by its number.
    Unknown(u16),
}

impl Provider {
    /// The provider's number in the format.
    pub const fn code(self) -> u16 {
        match self {
            Self::KeyProtect => 1,
            Self::Transit => 2,
            Self::AwsKms => 3,
            Self::GoogleKms => 4,
            Self::AzureKeyVault => 5,
            Self::Pkcs11 => 6,
            Self::Unknown(code) => code,
        }
    }

    /// The provider of a number.
    pub const fn from_code(code: u16) -> Self {
        match code {
            1 => Self::KeyProtect,
            2 => Self::Transit,
            3 => Self::AwsKms,
            4 => Self::GoogleKms,
            5 => Self::AzureKeyVault,
            6 => Self::Pkcs11,
            other => Self::Unknown(other),
        }
    }
}

/// How the KMS was told the [`KmsContext`] when it wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextScheme {
    /// Not at all: commitment and local wrap stand alone.
    None,
    /// As additional authenticated data.
    Aad,
    /// As the context that a derived key is made from.
    Derived,
    /// As an encryption context (a map).
    EncryptionContext,
}

impl ContextScheme {
    const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Aad => 1,
            Self::Derived => 2,
            Self::EncryptionContext => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Aad),
            2 => Some(Self::Derived),
            3 => Some(Self::EncryptionContext),
            _ => None,
        }
    }
}

/// What the KMS's blob holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wrapping {
    /// The key itself.
    Direct,
    /// A group key, which wraps the file's DEK in turn.
    Grouped(LocalWrap),
}

/// One wrapped key of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WrappedKey {
    /// Which KMS wrapped it.
    pub provider: Provider,
    /// How the context was bound.
    pub context: ContextScheme,
    /// The root key's identifier at the provider, printable ASCII, 1 to 1024 bytes.
    pub root_key: String,
    /// The root key's version that wrapped it, printable ASCII, 0 to 1024 bytes; empty if the provider does not say.
    pub version: String,
    /// What the KMS returned: 1 to 16,384 bytes, opaque.
    pub blob: Vec<u8>,
    /// What the blob holds.
    pub wrapping: Wrapping,
    extra: Vec<(u16, Vec<u8>)>,
}

impl WrappedKey {
    /// A wrapped key for a new slot.
    pub fn new(
        provider: Provider,
        context: ContextScheme,
        root_key: impl Into<String>,
        version: impl Into<String>,
        blob: Vec<u8>,
        wrapping: Wrapping,
    ) -> Result<Self, WrappedKeyError> {
        let key = Self {
            provider,
            context,
            root_key: root_key.into(),
            version: version.into(),
            blob,
            wrapping,
            extra: Vec::new(),
        };
        key.check()?;
        Ok(key)
    }

    /// The same key after a rewrap: another blob and version, everything else kept.
    pub fn rewrapped(&self, blob: Vec<u8>, version: impl Into<String>) -> Result<Self, WrappedKeyError> {
        let key = Self { blob, version: version.into(), ..self.clone() };
        key.check()?;
        Ok(key)
    }

    /// The context that this key of a *file* was wrapped with: of its group, or of the file itself.
    pub fn file_context(&self, origin: VolumeId, file: FileId) -> KmsContext {
        match &self.wrapping {
            Wrapping::Direct => KmsContext::file_dek(origin, file),
            Wrapping::Grouped(local) => KmsContext::group_key(origin, local.group()),
        }
    }

    /// SHA-256 of the KMS's blob: what a sweep remembers rewrapped blobs by.
    pub fn blob_digest(&self) -> [u8; 32] {
        Sha256::digest(&self.blob).into()
    }

    /// The fields in order, each as type, length, value (`u16` each, little-endian).
    pub(crate) fn encode(&self) -> Result<Vec<u8>, WrappedKeyError> {
        self.check()?;
        let (wrapping, local) = match &self.wrapping {
            Wrapping::Direct => (1_u8, None),
            Wrapping::Grouped(local) => (2, Some(local.encode())),
        };
        let mut out = Vec::with_capacity(64 + self.root_key.len() + self.blob.len());
        let provider = self.provider.code().to_le_bytes();
        let known: [(u16, &[u8]); 6] = [
            (PROVIDER, &provider),
            (WRAPPING, &[wrapping]),
            (CONTEXT, &[self.context.code()]),
            (ROOT_KEY, self.root_key.as_bytes()),
            (VERSION, self.version.as_bytes()),
            (BLOB, &self.blob),
        ];
        let local = local.iter().map(|bytes| (LOCAL, bytes.as_slice()));
        let extra = self.extra.iter().map(|(kind, value)| (*kind, &value[..]));
        for (kind, value) in known.into_iter().chain(local).chain(extra) {
            put_field(&mut out, kind, value).ok_or(WrappedKeyError::Value(kind))?;
        }
        Ok(out)
    }

    /// Reads the fields; never panics.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, WrappedKeyError> {
        let mut reader = Reader(bytes);
        let mut known: [Option<&[u8]>; 8] = [None; 8];
        let mut extra = Vec::new();
        let mut last = 0;
        while !reader.is_empty() {
            let (kind, value) = reader.field().ok_or(WrappedKeyError::Malformed)?;
            if kind <= last {
                return Err(WrappedKeyError::Malformed);
            }
            last = kind;
            match known.get_mut(kind as usize) {
                Some(place) => *place = Some(value),
                None => extra.push((kind, value.to_vec())),
            }
        }
        Self::from_fields(known, extra)
    }

    fn from_fields(known: [Option<&[u8]>; 8], extra: Vec<(u16, Vec<u8>)>) -> Result<Self, WrappedKeyError> {
        let field = |kind: u16| known[kind as usize].ok_or(WrappedKeyError::Missing(kind));
        let provider = <[u8; 2]>::try_from(field(PROVIDER)?).map_err(|_| WrappedKeyError::Value(PROVIDER))?;
        let byte = |kind| match field(kind)? {
            [byte] => Ok(*byte),
            _ => Err(WrappedKeyError::Value(kind)),
        };
        let wrapping = match (byte(WRAPPING)?, known[LOCAL as usize]) {
            (1, None) => Wrapping::Direct,
            (2, Some(local)) => {
                Wrapping::Grouped(LocalWrap::parse(local).ok_or(WrappedKeyError::Value(LOCAL))?)
            }
            (2, None) => return Err(WrappedKeyError::Missing(LOCAL)),
            _ => return Err(WrappedKeyError::Value(WRAPPING)),
        };
        let key = Self {
            provider: Provider::from_code(u16::from_le_bytes(provider)),
            context: ContextScheme::from_code(byte(CONTEXT)?).ok_or(WrappedKeyError::Value(CONTEXT))?,
            root_key: text(field(ROOT_KEY)?, ROOT_KEY)?,
            version: text(field(VERSION)?, VERSION)?,
            blob: field(BLOB)?.to_vec(),
            wrapping,
            extra,
        };
        key.check()?;
        Ok(key)
    }

    fn check(&self) -> Result<(), WrappedKeyError> {
        text(self.root_key.as_bytes(), ROOT_KEY)?;
        text(self.version.as_bytes(), VERSION)?;
        if self.root_key.is_empty() {
            return Err(WrappedKeyError::Value(ROOT_KEY));
        }
        if self.blob.is_empty() || self.blob.len() > 16_384 {
            return Err(WrappedKeyError::Value(BLOB));
        }
        Ok(())
    }
}

fn text(bytes: &[u8], kind: u16) -> Result<String, WrappedKeyError> {
    let printable = bytes.iter().all(|byte| (0x20..=0x7e).contains(byte));
    if !printable || bytes.len() > 1024 {
        return Err(WrappedKeyError::Value(kind));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| WrappedKeyError::Value(kind))
}

#[cfg(test)]
#[path = "tests/wrapped.rs"]
mod tests;
