//! The first 512 bytes of a protected file: who the file is, and a commitment to its DEK.
//!
//! Invariant: written once, when the file gets its first byte, and never changed; data is bound to it, never to the key
//! slots behind it. A [`Preamble`] that [`Preamble::verify`] accepted was written by a holder of the DEK; a [`FileDek`]
//! exists only for such a pair.

use crate::cipher::BlockCipher;
use crate::derive::{Derived, Extracted, Label};
use crate::frame::{FRAME_LEN, Feature, Fields, Frame, HeaderError, Kind};
use crate::geometry::Geometry;
use crate::ids::{FileId, VolumeId};
use crate::keys::Dek;
use crate::seal::{SEAL_FLAG, SealKey};
use crate::wire::all_zero;

/// Bytes of a preamble.
pub const PREAMBLE_LEN: usize = FRAME_LEN;

pub(crate) const KIND: Kind =
    Kind { magic: *b"\x89CFDM\r\n\x1a", commitment: Label::FileCommitment, header: Label::FileHeader };
/// Block overhead 48 (little-endian), layout 1 (one page is one block), one reserved byte.
const LAYOUT: [u8; 4] = [48, 0, 1, 0];

/// A file's immutable preamble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    frame: Frame,
}

impl Preamble {
    /// The preamble of a new file without a seal. `origin` is the volume that the file is made in; it travels with the file.
    pub fn create(dek: &Dek, file: FileId, origin: VolumeId, geometry: Geometry) -> Self {
        Self::create_extracted(&Extracted::new(dek.expose(), &file.0), file, origin, geometry, false)
    }

    fn create_extracted(
        key: &Extracted,
        file: FileId,
        origin: VolumeId,
        geometry: Geometry,
        seal: bool,
    ) -> Self {
        let mut tail = [0; 112];
        tail[..16].copy_from_slice(&origin.0);
        let fields = Fields { ro_compat: if seal { SEAL_FLAG } else { 0 }, kind: LAYOUT, tail };
        Self { frame: Frame::create(&KIND, key, geometry, file.0, &fields) }
    }

    /// The 512 bytes at the file's start.
    pub fn encode(&self) -> [u8; PREAMBLE_LEN] {
        self.frame.encode(&KIND)
    }

    /// Reads the first 512 bytes of a file, without a key. Extra bytes are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let frame = Frame::parse(&KIND, bytes)?;
        let unknown = |feature, value| Err(HeaderError::UnknownFeature { feature, value });
        if frame.kind_fields != LAYOUT {
            return unknown(Feature::Layout, u32::from_le_bytes(frame.kind_fields));
        }
        if frame.incompat != 0 {
            return unknown(Feature::Incompat, frame.incompat);
        }
        if !all_zero(&frame.tail[16..]) {
            return Err(HeaderError::Damaged("reserved bytes"));
        }
        Ok(Self { frame })
    }

    /// Whether `dek` is this file's key: the commitment in constant time, then the MAC over every field.
    ///
    /// # Errors
    /// [`HeaderError::WrongKey`] for another key, [`HeaderError::Forged`] if the key is right and a field is not.
    pub fn verify(&self, dek: &Dek) -> Result<(), HeaderError> {
        self.frame.verify(&KIND, &self.frame.extracted(dek))
    }

    /// The file's identifier.
    pub fn file_id(&self) -> FileId {
        FileId(self.frame.id)
    }

    /// The volume that the file was made in: part of the context of its wrapped keys.
    pub fn origin(&self) -> VolumeId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.frame.tail[..16]);
        VolumeId(id)
    }

    /// The file's geometry.
    pub fn geometry(&self) -> Geometry {
        self.frame.geometry
    }

    /// Format version, `(major, minor)`.
    pub fn version(&self) -> (u16, u16) {
        (crate::FORMAT_MAJOR, self.frame.minor)
    }

    /// Feature flags, `(incompat, ro_compat, compat)`.
    pub fn flags(&self) -> (u32, u32, u32) {
        (self.frame.incompat, self.frame.ro_compat, self.frame.compat)
    }

    /// Whether the sector behind the preamble is the file's seal.
    pub fn has_seal(&self) -> bool {
        self.frame.ro_compat & SEAL_FLAG != 0
    }

    /// The 32-byte key commitment.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.frame.commitment
    }

    pub(crate) fn frame_extended(&self) -> bool {
        self.frame.extended()
    }

    /// Whether this program may write the file.
    ///
    /// # Errors
    /// [`HeaderError::UnknownFeature`] if the file uses a feature that a writer must know.
    pub fn check_writable(&self) -> Result<(), HeaderError> {
        self.frame.check_writable(SEAL_FLAG)
    }

    /// The key of the file's seal, if it has one.
    fn seal_key(&self, key: &Extracted) -> Option<SealKey> {
        self.has_seal().then(|| SealKey::new(key, self.file_id()))
    }

    /// The key of the file's data, bound to suite, geometry, flags and layout (bytes 8..32).
    pub(crate) fn data_key(&self, key: &Extracted) -> Derived {
        key.derive(Label::FileData, &self.encode()[8..32])
    }
}

/// The DEK of one file: the file's preamble accepted it, or was made with it.
///
/// What is derived from a DEK has its first step in common, so it is derived here at once.
pub struct FileDek {
    dek: Dek,
    data: Derived,
    /// If the file has a seal.
    seal: Option<SealKey>,
}

impl FileDek {
    /// `dek`, if it is the key behind `preamble`: see [`Preamble::verify`].
    pub fn verify(dek: Dek, preamble: &Preamble) -> Result<Self, HeaderError> {
        let key = preamble.frame.extracted(&dek);
        preamble.frame.verify(&KIND, &key)?;
        let (data, seal) = (preamble.data_key(&key), preamble.seal_key(&key));
        Ok(Self { dek, data, seal })
    }

    /// The preamble of a new file, as [`Preamble::create`] but with a seal if `seal` says so, and its DEK.
    pub fn create(
        dek: Dek,
        file: FileId,
        origin: VolumeId,
        geometry: Geometry,
        seal: bool,
    ) -> (Preamble, Self) {
        let key = Extracted::new(dek.expose(), &file.0);
        let preamble = Preamble::create_extracted(&key, file, origin, geometry, seal);
        let (data, seal) = (preamble.data_key(&key), preamble.seal_key(&key));
        (preamble, Self { dek, data, seal })
    }

    /// The DEK.
    pub fn dek(&self) -> &Dek {
        &self.dek
    }

    /// What makes and opens the file's seal; `None` if it has none.
    pub fn seal_key(&self) -> Option<SealKey> {
        self.seal.clone()
    }

    /// What seals and opens the file's blocks.
    pub fn cipher(&self) -> Result<BlockCipher, HeaderError> {
        BlockCipher::with_data_key(&self.data)
    }
}

impl std::fmt::Debug for FileDek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileDek(..)")
    }
}
