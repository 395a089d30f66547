//! The 512 immutable bytes that begin a protected file and a volume's marker: the part that both have in common.
//!
//! Invariant: every bit is magic, version, a field under the CRC and the MAC, or reserved and zero; parsing accepts no
//! other bytes, so that encoding what was parsed gives the same bytes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::derive::{Extracted, Label};
use crate::geometry::Geometry;
use crate::keys::Dek;
use crate::slot::SlotError;
use crate::wire::{Reader, all_zero};
use crate::{FORMAT_MAJOR, FORMAT_MINOR};

/// Bytes of the frame.
pub(crate) const FRAME_LEN: usize = 512;
/// Cipher suite 1: XAES-256-GCM for data, HKDF-SHA-512 for derivation, HMAC-SHA-256 for the header.
pub(crate) const SUITE: u16 = 1;
const PAGE_LOG2: u8 = 12;
const MAC_AT: usize = 192;
const CRC_AT: usize = 252;

/// Why header bytes are not a header that this program can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer bytes than the header has.
    #[error("the header needs {need} bytes and has {have}")]
    Truncated {
        /// Bytes that there are.
        have: usize,
        /// Bytes that the header says it has, or 512.
        need: usize,
    },
    /// Another magic number: not written by Cofferdam.
    #[error("not a Cofferdam header")]
    NotOurs,
    /// A later format; the bytes may be perfectly good.
    #[error("format version {major} is not supported")]
    UnsupportedVersion {
        /// The version found.
        major: u16,
    },
    /// Undamaged, but needs something that this program does not know.
    #[error("unsupported {feature}: {value:#x}")]
    UnknownFeature {
        /// Which field asks for it.
        feature: Feature,
        /// The field's value (flags: the unknown bits only).
        value: u32,
    },
    /// The checksum does not fit, or a reserved byte is not zero.
    #[error("the header is damaged: {0}")]
    Damaged(&'static str),
    /// The key commitment does not fit: this is not the file's key.
    #[error("the key is not the one that the header commits to")]
    WrongKey,
    /// The key is right, but somebody without it changed the header.
    #[error("the header was changed by somebody without its key")]
    Forged,
    /// Neither key slot can be used; the reasons are those of slot 0 and slot 1.
    #[error("no usable key slot")]
    NoUsableSlot {
        /// Why slot 0 cannot be used; `None` if it was never written.
        first: Option<SlotError>,
        /// Why slot 1 cannot be used; `None` if it was never written.
        second: Option<SlotError>,
    },
    /// The cryptographic engine refused a key of the right length (out of memory, failed self-test): says nothing about
    /// the key or the header.
    #[error("the cryptographic engine failed")]
    Engine,
}

/// A field by which a header asks for something that a program may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Cipher suite number.
    Suite,
    /// Size of a page, as a power of two.
    PageSize,
    /// Bytes of a block that are not payload, or the layout number.
    Layout,
    /// Flags that a reader must know.
    Incompat,
    /// Flags that a writer must know.
    ReadOnlyCompat,
    /// Ownership mode of a volume.
    Ownership,
    /// Options of a volume.
    Options,
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Suite => "cipher suite",
            Self::PageSize => "page size",
            Self::Layout => "block layout",
            Self::Incompat => "incompatible feature flags",
            Self::ReadOnlyCompat => "feature flags for writing",
            Self::Ownership => "ownership mode",
            Self::Options => "volume options",
        })
    }
}

/// What distinguishes a file's frame from a marker's.
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) commitment: Label,
    pub(crate) header: Label,
}

/// What of a new frame the kind decides: see [`Frame`].
pub(crate) struct Fields {
    pub(crate) ro_compat: u32,
    pub(crate) kind: [u8; 4],
    pub(crate) tail: [u8; 112],
}

/// The common frame. `kind_fields` are bytes 28..32, `tail` bytes 80..192.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) minor: u16,
    pub(crate) geometry: Geometry,
    pub(crate) incompat: u32,
    pub(crate) ro_compat: u32,
    pub(crate) compat: u32,
    pub(crate) kind_fields: [u8; 4],
    pub(crate) id: [u8; 16],
    pub(crate) commitment: [u8; 32],
    pub(crate) tail: [u8; 112],
    pub(crate) mac: [u8; 32],
}

impl Frame {
    /// A new frame, committed to the DEK behind `key` (extracted with the salt `id`) and MACed under it.
    pub(crate) fn create(
        kind: &Kind,
        key: &Extracted,
        geometry: Geometry,
        id: [u8; 16],
        fields: &Fields,
    ) -> Self {
        let commitment = key.derive(kind.commitment, &[]);
        let mut frame = Self {
            minor: FORMAT_MINOR,
            geometry,
            incompat: 0,
            ro_compat: fields.ro_compat,
            compat: 0,
            kind_fields: fields.kind,
            id,
            commitment: *commitment,
            tail: fields.tail,
            mac: [0; 32],
        };
        frame.mac = frame.compute_mac(kind, key).finalize().into_bytes().into();
        frame
    }

    /// The 512 bytes.
    pub(crate) fn encode(&self, kind: &Kind) -> [u8; FRAME_LEN] {
        let mut out = [0; FRAME_LEN];
        out[..8].copy_from_slice(&kind.magic);
        out[8..10].copy_from_slice(&FORMAT_MAJOR.to_le_bytes());
        out[10..12].copy_from_slice(&self.minor.to_le_bytes());
        out[12..14].copy_from_slice(&SUITE.to_le_bytes());
        out[14] = PAGE_LOG2;
        out[15] = self.geometry.header_pages();
        out[16..20].copy_from_slice(&self.incompat.to_le_bytes());
        out[20..24].copy_from_slice(&self.ro_compat.to_le_bytes());
        out[24..28].copy_from_slice(&self.compat.to_le_bytes());
        out[28..32].copy_from_slice(&self.kind_fields);
        out[32..48].copy_from_slice(&self.id);
        out[48..80].copy_from_slice(&self.commitment);
        out[80..192].copy_from_slice(&self.tail);
        out[MAC_AT..224].copy_from_slice(&self.mac);
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..256].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the frame without a key. Order: magic, version, checksum, features, so that damage is never reported as a
    /// feature and a later version never as damage.
    pub(crate) fn parse(kind: &Kind, bytes: &[u8]) -> Result<Self, HeaderError> {
        // The magic comes first even if the file is shorter: a short plaintext file is not a truncated header.
        let shown = bytes.len().min(kind.magic.len());
        if bytes[..shown] != kind.magic[..shown] {
            return Err(if all_zero(&bytes[..bytes.len().min(FRAME_LEN)]) {
                HeaderError::Damaged("the first sector is zero")
            } else {
                HeaderError::NotOurs
            });
        }
        let truncated = HeaderError::Truncated { have: bytes.len(), need: FRAME_LEN };
        let bytes: &[u8; FRAME_LEN] = bytes.first_chunk().ok_or(truncated)?;
        let major = u16::from_le_bytes([bytes[8], bytes[9]]);
        if major != FORMAT_MAJOR {
            return Err(HeaderError::UnsupportedVersion { major });
        }
        if crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes() != bytes[CRC_AT..256] {
            return Err(HeaderError::Damaged("checksum"));
        }
        if !all_zero(&bytes[224..CRC_AT]) || !all_zero(&bytes[256..]) {
            return Err(HeaderError::Damaged("reserved bytes"));
        }
        Self::fields(&bytes[10..MAC_AT + 32]).ok_or(truncated)?
    }

    fn fields(bytes: &[u8]) -> Option<Result<Self, HeaderError>> {
        let mut reader = Reader(bytes);
        let minor = reader.u16()?;
        let suite = reader.u16()?;
        let page_log2 = reader.u8()?;
        let pages = reader.u8()?;
        let unknown = |feature, value| Some(Err(HeaderError::UnknownFeature { feature, value }));
        if suite != SUITE {
            return unknown(Feature::Suite, suite.into());
        }
        if page_log2 != PAGE_LOG2 {
            return unknown(Feature::PageSize, page_log2.into());
        }
        let Ok(geometry) = Geometry::new(pages) else {
            return Some(Err(HeaderError::Damaged("number of header pages")));
        };
        Some(Ok(Self {
            minor,
            geometry,
            incompat: reader.u32()?,
            ro_compat: reader.u32()?,
            compat: reader.u32()?,
            kind_fields: reader.array()?,
            id: reader.array()?,
            commitment: reader.array()?,
            tail: reader.array()?,
            mac: reader.array()?,
        }))
    }

    /// Commitment first, in constant time: with a wrong key nothing else is computed from it.
    pub(crate) fn verify(&self, kind: &Kind, key: &Extracted) -> Result<(), HeaderError> {
        let commitment = key.derive(kind.commitment, &[]);
        if !bool::from(commitment.as_slice().ct_eq(&self.commitment)) {
            return Err(HeaderError::WrongKey);
        }
        self.compute_mac(kind, key).verify_slice(&self.mac).map_err(|_| HeaderError::Forged)
    }

    /// Whether this program, which knows the flags `known`, may write what the frame begins.
    pub(crate) fn check_writable(&self, known: u32) -> Result<(), HeaderError> {
        let unknown = self.ro_compat & !known;
        if unknown == 0 {
            return Ok(());
        }
        Err(HeaderError::UnknownFeature { feature: Feature::ReadOnlyCompat, value: unknown })
    }

    /// Whether the sector behind the frame may hold something, announced by a flag.
    pub(crate) fn extended(&self) -> bool {
        self.ro_compat != 0 || self.compat != 0
    }

    /// What is derived from a DEK for this object.
    pub(crate) fn extracted(&self, dek: &Dek) -> Extracted {
        Extracted::new(dek.expose(), &self.id)
    }

    fn compute_mac(&self, kind: &Kind, key: &Extracted) -> Hmac<Sha256> {
        let key = key.derive(kind.header, &[]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key[..]).expect("HMAC takes a key of any length");
        mac.update(&self.encode(kind)[..MAC_AT]);
        mac
    }
}

#[cfg(test)]
#[path = "tests/frame.rs"]
mod tests;
