//! A wrapped key as it is stored: our own encoding, because a token returns ciphertext and nothing else.
//!
//! 85 bytes: format (1), version id (16), key check (8), IV (12), ciphertext (32), tag (16). What stands before the IV is bound
//! as additional authenticated data, before the 32 bytes of the context. Invariant: a blob that is not spelled so is refused
//! before the token sees it, and it selects among the versions of the configured key alone.

use sha2::{Digest, Sha256};

use super::version::VersionId;
use crate::call::EncCtx;
use crate::error::ErrorKind;
use crate::key::{ContextScheme, Wrapped};

const FORMAT: u8 = 1;
const CHECK: usize = 8;
const HEAD: usize = 1 + VersionId::LEN + CHECK;
pub(super) const IV: usize = 12;
const LEN: usize = HEAD + IV + SEALED;

/// A data key and its tag.
pub(super) const SEALED: usize = 32 + 16;

/// What stands before the IV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    id: VersionId,
    check: [u8; CHECK],
}

impl Head {
    pub(super) fn new(label: &str, id: VersionId) -> Self {
        Self { id, check: check(label, &id) }
    }

    pub(super) fn id(&self) -> VersionId {
        self.id
    }

    /// A version of `label` wrote it. Only asked where that version is not there: it tells a version that was destroyed from
    /// damage and from the blob of another key.
    pub(super) fn is_of(&self, label: &str) -> bool {
        self.check == check(label, &self.id)
    }

    fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [FORMAT; HEAD];
        bytes[1..=VersionId::LEN].copy_from_slice(self.id.bytes());
        bytes[1 + VersionId::LEN..].copy_from_slice(&self.check);
        bytes
    }

    /// The additional authenticated data.
    pub(super) fn aad(&self, ctx: &EncCtx) -> Vec<u8> {
        [self.bytes().as_slice(), ctx].concat()
    }
}

fn check(label: &str, id: &VersionId) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update(b"cofferdam/pkcs11/v1");
    hash.update(id.bytes());
    hash.update(label.as_bytes());
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash.finalize()[..CHECK]);
    check
}

/// A wrapped key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) head: Head,
    pub(super) iv: [u8; IV],
    pub(super) sealed: [u8; SEALED],
}

impl Blob {
    pub(super) fn parse(wrapped: &Wrapped) -> Result<Self, ErrorKind> {
        let bytes: &[u8; LEN] =
            wrapped.blob.as_slice().try_into().map_err(|_| ErrorKind::CiphertextInvalid)?;
        if bytes[0] != FORMAT || wrapped.scheme != ContextScheme::Aad {
            return Err(ErrorKind::CiphertextInvalid);
        }
        let (head, rest) = bytes.split_at(HEAD);
        let (iv, sealed) = rest.split_at(IV);
        let (id, check) = head[1..].split_at(VersionId::LEN);
        let parts = VersionId::parse(id).zip(check.try_into().ok());
        let rest = iv.try_into().ok().zip(sealed.try_into().ok());
        let ((id, check), (iv, sealed)) = parts.zip(rest).ok_or(ErrorKind::CiphertextInvalid)?;
        Ok(Self { head: Head { id, check }, iv, sealed })
    }

    pub(super) fn wrapped(&self) -> Wrapped {
        let blob = [self.head.bytes().as_slice(), &self.iv, &self.sealed].concat();
        Wrapped { blob, version: Some(self.head.id.name()), scheme: ContextScheme::Aad }
    }
}
