//! The first 512 bytes of `.cofferdam/volume`: what the volume is, under a key of its own.
//!
//! Invariant: written once when a volume is initialised and never changed. What does change (wrapped keys and the sweep
//! epoch) stands in the key slots behind it, because a rewrap job must write it without holding the key.

use crate::derive::{Extracted, Label};
use crate::frame::{Feature, Fields, Frame, HeaderError, Kind};
use crate::geometry::Geometry;
use crate::ids::VolumeId;
use crate::keys::Dek;
use crate::preamble::PREAMBLE_LEN;
use crate::wire::all_zero;

pub(crate) const KIND: Kind =
    Kind { magic: *b"\x89CFDV\r\n\x1a", commitment: Label::MarkerCommitment, header: Label::MarkerHeader };
const STRICT: u8 = 1;
const SEAL: u8 = 2;

/// Who owns the backing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// Owner and mode of the backing file are the file's.
    Native,
    /// The application's owner and mode stand in an extended attribute.
    Virtual,
}

impl Ownership {
    const fn code(self) -> u8 {
        match self {
            Self::Native => 1,
            Self::Virtual => 2,
        }
    }
}

/// What is decided when a volume is initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerOptions {
    /// Geometry of the headers of all files of the volume, and of the marker itself.
    pub geometry: Geometry,
    /// Who owns the backing files.
    pub ownership: Ownership,
    /// No holes are made, and a zero block before the last sealed one is an error.
    pub strict: bool,
    /// New files have a seal.
    pub seal: bool,
}

/// A volume's immutable marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMarker {
    frame: Frame,
    options: MarkerOptions,
}

impl VolumeMarker {
    /// The marker of a new volume, under a DEK of its own.
    pub fn create(dek: &Dek, volume: VolumeId, options: MarkerOptions) -> Self {
        let strict = if options.strict { STRICT } else { 0 };
        let seal = if options.seal { SEAL } else { 0 };
        let kind = [options.ownership.code(), strict | seal, 0, 0];
        Self {
            frame: Frame::create(
                &KIND,
                &Extracted::new(dek.expose(), &volume.0),
                options.geometry,
                volume.0,
                &Fields { ro_compat: 0, kind, tail: [0; 112] },
            ),
            options,
        }
    }

    /// The 512 bytes at the marker's start.
    pub fn encode(&self) -> [u8; PREAMBLE_LEN] {
        self.frame.encode(&KIND)
    }

    /// Reads the first 512 bytes of a marker, without a key. Extra bytes are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let frame = Frame::parse(&KIND, bytes)?;
        let unknown = |feature, value| Err(HeaderError::UnknownFeature { feature, value });
        if frame.incompat != 0 {
            return unknown(Feature::Incompat, frame.incompat);
        }
        let [ownership, options, rest @ ..] = frame.kind_fields;
        let ownership = match ownership {
            1 => Ownership::Native,
            2 => Ownership::Virtual,
            other => return unknown(Feature::Ownership, other.into()),
        };
        let later = options & !(STRICT | SEAL);
        if later != 0 {
            return unknown(Feature::Options, later.into());
        }
        if rest != [0, 0] || !all_zero(&frame.tail) {
            return Err(HeaderError::Damaged("reserved bytes"));
        }
        let (strict, seal) = (options & STRICT != 0, options & SEAL != 0);
        let options = MarkerOptions { geometry: frame.geometry, ownership, strict, seal };
        Ok(Self { frame, options })
    }

    /// Whether `dek` is this marker's key: the commitment in constant time, then the MAC over every field.
    ///
    /// # Errors
    /// [`HeaderError::WrongKey`] for another key, [`HeaderError::Forged`] if the key is right and a field is not.
    pub fn verify(&self, dek: &Dek) -> Result<(), HeaderError> {
        self.frame.verify(&KIND, &self.frame.extracted(dek))
    }

    /// The volume's identifier.
    pub fn volume_id(&self) -> VolumeId {
        VolumeId(self.frame.id)
    }

    /// What was decided when the volume was initialised.
    pub fn options(&self) -> MarkerOptions {
        self.options
    }

    /// Geometry of every header of the volume.
    pub fn geometry(&self) -> Geometry {
        self.options.geometry
    }

    /// Format version, `(major, minor)`.
    pub fn version(&self) -> (u16, u16) {
        (crate::FORMAT_MAJOR, self.frame.minor)
    }

    pub(crate) fn frame_extended(&self) -> bool {
        self.frame.extended()
    }

    /// Whether this program may write the volume.
    ///
    /// # Errors
    /// [`HeaderError::UnknownFeature`] if the volume uses a feature that a writer must know.
    pub fn check_writable(&self) -> Result<(), HeaderError> {
        self.frame.check_writable(0)
    }
}
