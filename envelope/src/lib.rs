//! Cofferdam's file format v1 and its cryptography, as pure functions over bytes.
//!
//! The specification is `docs/file-format.md`. Nothing here does input or output, waits, or knows the time: callers read
//! and write the bytes, talk to the KMS, and hand in what they got. The only outside source is the operating system's
//! random number generator, and a failing one is an error.
//!
//! Invariant of the crate: for any bytes whatever, a call returns the plaintext that was sealed at that place under that
//! key, or an error. Never other bytes, never a panic.
//!
//! A protected file is a header region (`1..=16` pages of 4096 bytes) and data pages:
//! * [`Preamble`]: immutable, names the file and commits to its DEK.
//! * two [`KeySlot`]s that are written in turn, with the wrapped DEK: [`HeaderRegion`].
//! * in a file with a [`Seal`]: one sector that says at which size the file was left.
//! * blocks of at most [`PAYLOAD`] plaintext bytes, one in each 4096-byte page: [`BlockCipher`].
//! * [`Geometry`] is the arithmetic between plaintext offsets, blocks and physical offsets.
//!
//! A volume's root holds a [`VolumeMarker`] in a [`MarkerRegion`], and [`GroupRecord`]s of open groups.

mod block;
mod cipher;
mod context;
mod derive;
mod frame;
mod geometry;
mod group_record;
mod ids;
mod keys;
mod local_wrap;
mod marker;
mod preamble;
mod region;
mod seal;
mod slot;
mod wire;
mod wrapped;
mod xaes;

pub use block::{BLOCK_HEAD, BlockError, BlockHead, is_zero_page, peek_len};
pub use cipher::{BlockCipher, CipherError, Opened, PREFIX_BUDGET};
pub use context::{KmsContext, Purpose};
pub use frame::{Feature, HeaderError};
pub use geometry::{BlockRange, BlockSpan, Geometry, GeometryError, Position};
pub use group_record::{GROUP_RECORD_LEN, GroupRecord, GroupRecordError};
pub use ids::{FileId, GroupId, IdError, VolumeId};
pub use keys::{Dek, GroupKey, KEY_LEN, RandomError};
pub use local_wrap::{LOCAL_WRAP_LEN, LocalWrap, LocalWrapError, unwrap_dek, wrap_dek};
pub use marker::{MarkerOptions, Ownership, VolumeMarker};
pub use preamble::{FileDek, PREAMBLE_LEN, Preamble};
pub use region::{HeaderRegion, MarkerRegion, Record, Region, SlotState, SlotWrite};
pub use seal::{SEAL_HEAD, SEAL_LEN, SEAL_OFFSET, Seal, SealError, SealKey};
pub use slot::{KeySlot, MAX_KEYS, SlotError};
pub use wrapped::{ContextScheme, Provider, WrappedKey, WrappedKeyError, Wrapping};

/// Bytes of a page: the unit of the header region and of a data block on the volume.
pub const PAGE: usize = 4096;
/// Plaintext bytes that one block holds at most.
pub const PAYLOAD: usize = 4048;
/// Version of the format that this crate writes.
pub const FORMAT_MAJOR: u16 = 1;
/// Revision of the format that this crate writes; readers accept any.
pub const FORMAT_MINOR: u16 = 0;
