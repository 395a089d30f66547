//! The seal of a file: a sector behind the preamble that says, under a key of its own, at which size the file was left.
//!
//! Invariant: only a holder of the DEK can make a sector that [`SealKey::open`] accepts, and for this file only. One sector of
//! 512 bytes: whatever a crash does, it is old or new. It tells of the size and of nothing else.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use crate::derive::{Derived, Extracted, Label};
use crate::ids::FileId;
use crate::wire::{Reader, all_zero};

/// Where the sector begins in a file.
pub const SEAL_OFFSET: usize = 512;
/// Bytes of the sector.
pub const SEAL_LEN: usize = 512;
/// Bytes of the sector that are not always zero: they come first.
pub const SEAL_HEAD: usize = FIELDS + MAC_LEN;
/// The ro_compat flag of a file that has one.
pub(crate) const SEAL_FLAG: u32 = 1;

const MAGIC: [u8; 4] = *b"CFSE";
const DOMAIN: &[u8] = b"cofferdam/v1/seal";
const OPEN: u8 = 1;
const CLOSED: u8 = 2;
/// What the MAC covers.
const FIELDS: usize = 16;
const MAC_LEN: usize = 32;

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// The file is being written, or was when its writer ended: its size is not known.
    Open,
    /// The file was left with so many bytes of plaintext.
    Closed(u64),
}

/// Why a sector is no seal of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The sector is zero or holds something else.
    #[error("there is no seal where the header says that there is one")]
    Missing,
    /// A field or a reserved byte has a value that nobody writes.
    #[error("the seal is malformed")]
    Malformed,
    /// The MAC does not fit: changed, or of another file.
    #[error("the seal was not made with the file's key")]
    Forged,
}

impl Seal {
    /// What a sector claims; who wrote it takes the file's key to say.
    pub fn peek(sector: &[u8; SEAL_LEN]) -> Result<Self, SealError> {
        let mut reader = Reader(sector);
        let fields = (reader.array::<4>(), reader.u8(), reader.array::<3>(), reader.u64());
        let (Some(magic), Some(state), Some(reserved), Some(size)) = fields else {
            return Err(SealError::Malformed);
        };
        if magic != MAGIC {
            return Err(SealError::Missing);
        }
        if reserved != [0; 3] || !all_zero(&sector[FIELDS + MAC_LEN..]) {
            return Err(SealError::Malformed);
        }
        match (state, size) {
            (OPEN, 0) => Ok(Self::Open),
            (CLOSED, size) => Ok(Self::Closed(size)),
            _ => Err(SealError::Malformed),
        }
    }

    fn fields(self) -> [u8; FIELDS] {
        let (state, size) = match self {
            Self::Open => (OPEN, 0),
            Self::Closed(size) => (CLOSED, size),
        };
        let mut fields = [0; FIELDS];
        fields[..4].copy_from_slice(&MAGIC);
        fields[4] = state;
        fields[8..].copy_from_slice(&size.to_le_bytes());
        fields
    }
}

/// The key of one file's seal. Wiped when it is dropped.
#[derive(Clone)]
pub struct SealKey {
    key: Box<Derived>,
    file: FileId,
}

impl SealKey {
    pub(crate) fn new(key: &Extracted, file: FileId) -> Self {
        Self { key: Box::new(key.derive(Label::FileSeal, &[])), file }
    }

    /// The sector that says `seal`.
    pub fn make(&self, seal: Seal) -> [u8; SEAL_LEN] {
        let fields = seal.fields();
        let mut sector = [0; SEAL_LEN];
        sector[..FIELDS].copy_from_slice(&fields);
        sector[FIELDS..FIELDS + MAC_LEN].copy_from_slice(&self.mac(&fields).finalize().into_bytes());
        sector
    }

    /// What a sector says, if it was made with this key.
    pub fn open(&self, sector: &[u8; SEAL_LEN]) -> Result<Seal, SealError> {
        let seal = Seal::peek(sector)?;
        let mac = self.mac(&sector[..FIELDS]);
        mac.verify_slice(&sector[FIELDS..FIELDS + MAC_LEN]).map_err(|_| SealError::Forged)?;
        Ok(seal)
    }

    fn mac(&self, fields: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key[..]).expect("HMAC takes a key of any length");
        mac.update(DOMAIN);
        mac.update(&self.file.0);
        mac.update(fields);
        mac
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

#[cfg(test)]
#[path = "tests/seal.rs"]
mod tests;
