//! A whole header region: an immutable record and two key slots that are written in turn.
//!
//! Invariant: a replacement is only ever made for the slot that is not current, so that whatever part of it reaches the
//! volume, the current slot still opens the file.

use crate::frame::HeaderError;
use crate::geometry::Geometry;
use crate::marker::VolumeMarker;
use crate::preamble::{PREAMBLE_LEN, Preamble};
use crate::seal::{SEAL_LEN, SEAL_OFFSET, Seal, SealError, SealKey};
use crate::slot::{KeySlot, SlotError};
use crate::wire::all_zero;

/// The header region of a protected file.
pub type HeaderRegion = Region<Preamble>;
/// The contents of a volume's marker, `.cofferdam/volume`.
pub type MarkerRegion = Region<VolumeMarker>;

/// The immutable 512 bytes that begin a region. Implemented by [`Preamble`] and [`VolumeMarker`] only.
pub trait Record: Sized + sealed::Sealed {
    /// Reads the record from the region's first 512 bytes.
    fn parse_record(bytes: &[u8]) -> Result<Self, HeaderError>;
    /// The record's 512 bytes.
    fn encode_record(&self) -> [u8; PREAMBLE_LEN];
    /// The object that the slots belong to.
    fn object_id(&self) -> [u8; 16];
    /// The region's geometry.
    fn record_geometry(&self) -> Geometry;
    /// Whether a flag announces contents of the sector behind the record.
    fn extended(&self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::Preamble {}
    impl Sealed for crate::VolumeMarker {}
}

impl Record for Preamble {
    fn parse_record(bytes: &[u8]) -> Result<Self, HeaderError> {
        Self::parse(bytes)
    }
    fn encode_record(&self) -> [u8; PREAMBLE_LEN] {
        self.encode()
    }
    fn object_id(&self) -> [u8; 16] {
        self.file_id().0
    }
    fn record_geometry(&self) -> Geometry {
        self.geometry()
    }
    fn extended(&self) -> bool {
        self.frame_extended()
    }
}

impl Record for VolumeMarker {
    fn parse_record(bytes: &[u8]) -> Result<Self, HeaderError> {
        Self::parse(bytes)
    }
    fn encode_record(&self) -> [u8; PREAMBLE_LEN] {
        self.encode()
    }
    fn object_id(&self) -> [u8; 16] {
        self.volume_id().0
    }
    fn record_geometry(&self) -> Geometry {
        self.geometry()
    }
    fn extended(&self) -> bool {
        self.frame_extended()
    }
}

/// What one slot of a region holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotState {
    /// Never written: all zero.
    Absent,
    /// Whole.
    Valid(KeySlot),
    /// Torn, damaged, or of a later revision.
    Damaged(SlotError),
}

impl SlotState {
    /// The slot, if it is whole.
    pub fn valid(&self) -> Option<&KeySlot> {
        match self {
            Self::Valid(slot) => Some(slot),
            Self::Absent | Self::Damaged(_) => None,
        }
    }

    fn damage(&self) -> Option<SlotError> {
        match self {
            Self::Damaged(error) => Some(*error),
            Self::Absent | Self::Valid(_) => None,
        }
    }
}

/// One write that replaces the slot that is not current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWrite {
    /// Which slot, 0 or 1.
    pub index: usize,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The whole slot: one `pwrite`.
    pub bytes: Vec<u8>,
}

/// A parsed region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region<R> {
    record: R,
    /// The sector behind the record: zero unless a flag of the record announces it.
    sector: [u8; SEAL_LEN],
    slots: [SlotState; 2],
}

impl<R: Record> Region<R> {
    /// A new region with its first slot.
    pub fn create(record: R, slot: KeySlot) -> Self {
        Self { record, sector: [0; SEAL_LEN], slots: [SlotState::Valid(slot), SlotState::Absent] }
    }

    /// Reads a region. `bytes` is the file's header region from its start (as long as the volume's geometry says, or less
    /// if the file is shorter); bytes behind the region are ignored.
    ///
    /// `Ok(None)` means that the header was never written (no byte, or all of them zero): an empty file. Where the
    /// geometry is not known beforehand, [`Region::needed_len`] of the first page says how many bytes to read.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeaderError> {
        let Some(need) = Self::needed_len(bytes)? else {
            return Ok(None);
        };
        let record = R::parse_record(bytes)?;
        let truncated = HeaderError::Truncated { have: bytes.len(), need };
        let bytes = bytes.get(..need).ok_or(truncated)?;
        let geometry = record.record_geometry();
        let skip = usize::from(record.extended());
        if !gaps(geometry).skip(skip).all(|(start, end)| all_zero(&bytes[start..end])) {
            return Err(HeaderError::Damaged("reserved bytes"));
        }
        let slots = [0, 1].map(|index| {
            let start = geometry.slot_offset(index);
            let slot = &bytes[start..start + geometry.slot_len()];
            match KeySlot::parse(&record.object_id(), index, slot) {
                Ok(None) => SlotState::Absent,
                Ok(Some(slot)) => SlotState::Valid(slot),
                Err(error) => SlotState::Damaged(error),
            }
        });
        let sector = *bytes[SEAL_OFFSET..].first_chunk().ok_or(truncated)?;
        Ok(Some(Self { record, sector, slots }))
    }

    /// Bytes of the region whose first 512 or more bytes are given; `None` if all given bytes are zero.
    pub fn needed_len(bytes: &[u8]) -> Result<Option<usize>, HeaderError> {
        if all_zero(bytes) {
            return Ok(None);
        }
        let geometry = R::parse_record(bytes)?.record_geometry();
        Ok(Some(geometry.header_len() as usize))
    }

    /// The whole region, for a new file. (A damaged slot becomes zeros: an existing region is changed by [`Self::replacement`]
    /// only.)
    pub fn encode(&self) -> Result<Vec<u8>, SlotError> {
        let geometry = self.record.record_geometry();
        let mut out = vec![0; geometry.header_len() as usize];
        out[..PREAMBLE_LEN].copy_from_slice(&self.record.encode_record());
        out[SEAL_OFFSET..SEAL_OFFSET + SEAL_LEN].copy_from_slice(&self.sector);
        for (index, state) in self.slots.iter().enumerate() {
            if let Some(slot) = state.valid() {
                let start = geometry.slot_offset(index);
                let len = geometry.slot_len();
                let bytes = slot.encode(&self.record.object_id(), index, len)?;
                out[start..start + len].copy_from_slice(&bytes);
            }
        }
        Ok(out)
    }

    /// The immutable record.
    pub fn record(&self) -> &R {
        &self.record
    }

    /// Both slots.
    pub fn slots(&self) -> &[SlotState; 2] {
        &self.slots
    }

    /// The current slot and its index: the valid one with the highest generation.
    pub fn current(&self) -> Result<(usize, &KeySlot), HeaderError> {
        let [first, second] = [0, 1].map(|index| self.slots[index].valid());
        match (first, second) {
            (Some(a), Some(b)) if b.generation() > a.generation() => Ok((1, b)),
            (Some(a), _) => Ok((0, a)),
            (None, Some(b)) => Ok((1, b)),
            (None, None) => Err(HeaderError::NoUsableSlot {
                first: self.slots[0].damage(),
                second: self.slots[1].damage(),
            }),
        }
    }

    /// The index of the slot that the next replacement goes to.
    pub fn inactive(&self) -> Result<usize, HeaderError> {
        self.current().map(|(index, _)| 1 - index)
    }

    /// The one write that makes `slot` current. It must be the [`KeySlot::successor`] of the current slot.
    ///
    /// The caller makes sure beforehand that the current slot is durable, and afterwards that this write is.
    pub fn replacement(&self, slot: &KeySlot) -> Result<SlotWrite, SlotError> {
        let (index, current) = self.current().map_err(|_| SlotError::Malformed)?;
        let expected = current.generation().saturating_add(1);
        let got = slot.generation();
        if got != expected {
            return Err(SlotError::Generation { expected, got });
        }
        let geometry = self.record.record_geometry();
        let index = 1 - index;
        Ok(SlotWrite {
            index,
            offset: geometry.slot_offset(index) as u64,
            bytes: slot.encode(&self.record.object_id(), index, geometry.slot_len())?,
        })
    }

    /// The region as it is once `slot` was written by [`Self::replacement`].
    #[must_use]
    pub fn replaced(mut self, write: &SlotWrite, slot: KeySlot) -> Self {
        self.slots[write.index & 1] = SlotState::Valid(slot);
        self
    }
}

impl HeaderRegion {
    /// The file's preamble.
    pub fn preamble(&self) -> &Preamble {
        self.record()
    }

    /// The region with this seal; the file must have the flag.
    #[must_use]
    pub fn with_seal(mut self, key: &SealKey, seal: Seal) -> Self {
        self.sector = key.make(seal);
        self
    }

    /// What the file's seal says, if it was made with `key`.
    pub fn seal(&self, key: &SealKey) -> Result<Seal, SealError> {
        key.open(&self.sector)
    }

    /// What the file's seal claims, without a key; `None` if the file has none.
    pub fn claimed_seal(&self) -> Option<Result<Seal, SealError>> {
        self.preamble().has_seal().then(|| Seal::peek(&self.sector))
    }
}

impl MarkerRegion {
    /// The volume's marker.
    pub fn marker(&self) -> &VolumeMarker {
        self.record()
    }

    /// The number of the last finished sweep of the current slot; 0 before the first.
    pub fn sweep_epoch(&self) -> Result<u64, HeaderError> {
        Ok(self.current()?.1.sweep_epoch().unwrap_or(0))
    }
}

/// The parts of a region that belong to nothing and must be zero, as `(start, end)`; first the sector that a
/// flag may announce.
fn gaps(geometry: Geometry) -> impl Iterator<Item = (usize, usize)> {
    let len = geometry.slot_len();
    let [a, b] = [0, 1].map(|index| geometry.slot_offset(index));
    [(PREAMBLE_LEN, a), (a + len, b), (b + len, geometry.header_len() as usize)].into_iter()
}

#[cfg(test)]
#[path = "tests/region.rs"]
mod tests;
