//! Keys and values derived from a DEK or a group key: HKDF with SHA-512 (RFC 5869), one label for each use.
//!
//! Invariant: the salt is the object's identifier and every label is used for one thing, so that no two derived values
//! of one key coincide and the same key under another identifier gives unrelated values.

use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::keys::KEY_LEN;

/// 32 derived bytes, zeroed on drop.
pub(crate) type Derived = Zeroizing<[u8; KEY_LEN]>;

/// What a derived value is for: the `info` of HKDF begins with the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    FileCommitment,
    FileHeader,
    FileData,
    FileSeal,
    MarkerCommitment,
    MarkerHeader,
    GroupCommitment,
}

impl Label {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::FileCommitment => b"cofferdam/v1/file/commit",
            Self::FileHeader => b"cofferdam/v1/file/header",
            Self::FileData => b"cofferdam/v1/file/data",
            Self::FileSeal => b"cofferdam/v1/file/seal",
            Self::MarkerCommitment => b"cofferdam/v1/marker/commit",
            Self::MarkerHeader => b"cofferdam/v1/marker/header",
            Self::GroupCommitment => b"cofferdam/v1/group/commit",
        }
    }
}

/// `HKDF-SHA-512(key, salt = id, info = label ‖ bound)`, 32 bytes.
pub(crate) fn derive(key: &[u8; KEY_LEN], id: &[u8; 16], label: Label, bound: &[u8]) -> Derived {
    Extracted::new(key, id).derive(label, bound)
}

/// A key after HKDF's first step, which all values that are derived from it share. Wiped when it is dropped.
pub(crate) struct Extracted(Hkdf<Sha512>);

impl Extracted {
    /// `HKDF-Extract(salt = id, key)`.
    pub(crate) fn new(key: &[u8; KEY_LEN], id: &[u8; 16]) -> Self {
        Self(Hkdf::new(Some(id), key))
    }

    /// `HKDF-Expand(info = label ‖ bound)`, 32 bytes.
    pub(crate) fn derive(&self, label: Label, bound: &[u8]) -> Derived {
        let mut out = Zeroizing::new([0; KEY_LEN]);
        self.0
            .expand_multi_info(&[label.text(), bound], &mut out[..])
            .expect("32 bytes are within the limit of 255 hash outputs");
        out
    }
}
