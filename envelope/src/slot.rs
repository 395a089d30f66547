//! A key slot: the replaceable part of a header, with 1 to 8 wrapped keys.
//!
//! Invariant: a slot's digest needs no key, so that a job that cannot decrypt can write a slot; what makes a substituted
//! key fail is the KMS's context, the tag of the local wrap and the commitment in the preamble. Entries of an unknown type
//! survive a rewrap.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::wire::{Reader, all_zero, put_field};
use crate::wrapped::{WrappedKey, WrappedKeyError};

/// Wrapped keys that a slot holds at most.
pub const MAX_KEYS: usize = 8;
const MAX_ENTRIES: usize = 16;
const MAGIC: [u8; 4] = *b"CFSL";
const HEAD: usize = 20;
const DIGEST: usize = 32;
const VERIFIED: u8 = 1;
const ENTRY_KEY: u16 = 1;
const ENTRY_EPOCH: u16 = 2;

/// Why bytes or fields are not a key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SlotError {
    /// The digest does not fit: a torn write, damage, or a slot of another file or place.
    #[error("the digest of the key slot does not fit")]
    Digest,
    /// The digest fits, but the contents are not what the format allows.
    #[error("the key slot is malformed")]
    Malformed,
    /// A slot holds 1 to 8 wrapped keys.
    #[error("a key slot holds 1 to 8 wrapped keys, not {0}")]
    Count(usize),
    /// The wrapped keys do not fit; the volume needs more header pages.
    #[error("the wrapped keys take {need} bytes and the key slot has {have}")]
    TooLarge {
        /// Bytes that the entries take.
        need: usize,
        /// Bytes that the slot has for entries.
        have: usize,
    },
    /// A wrapped key is malformed.
    #[error("read a wrapped key")]
    Key(#[from] WrappedKeyError),
    /// The generation to be written is not the next one.
    #[error("the next slot has generation {expected}, not {got}")]
    Generation {
        /// The generation that follows the current slot.
        expected: u64,
        /// The generation that the caller gave.
        got: u64,
    },
}

/// The contents of one key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    generation: u64,
    verified: bool,
    keys: Vec<WrappedKey>,
    sweep_epoch: Option<u64>,
    unknown: Vec<(u16, Vec<u8>)>,
}

impl KeySlot {
    /// The first slot of a new header: generation 1. `verified` says that the writer holds the DEK and checked it against
    /// the header's commitment.
    pub fn first(keys: Vec<WrappedKey>, verified: bool) -> Result<Self, SlotError> {
        Self { generation: 1, verified, keys, sweep_epoch: None, unknown: Vec::new() }.checked()
    }

    /// The slot after this one: next generation, other keys, everything else kept.
    ///
    /// `verified` is about *these* keys: a job that rewrapped without the DEK passes `false`.
    pub fn successor(&self, keys: Vec<WrappedKey>, verified: bool) -> Result<Self, SlotError> {
        let generation = self.generation.checked_add(1).ok_or(SlotError::Malformed)?;
        Self { generation, verified, keys, ..self.clone() }.checked()
    }

    /// The slot with a sweep epoch (markers only).
    #[must_use]
    pub fn with_sweep_epoch(mut self, epoch: u64) -> Self {
        self.sweep_epoch = Some(epoch);
        self
    }

    /// Grows by one with each write; the valid slot with the highest one is current.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the writer held the DEK and checked it against the commitment.
    pub fn verified(&self) -> bool {
        self.verified
    }

    /// The wrapped keys, 1 to 8; each alone gives the DEK.
    pub fn keys(&self) -> &[WrappedKey] {
        &self.keys
    }

    /// The number of the last finished sweep (markers only). Under the slot's digest, not under the marker's MAC.
    pub fn sweep_epoch(&self) -> Option<u64> {
        self.sweep_epoch
    }

    /// Entries of types that this program does not know: while there are any, a count per key version is not complete.
    pub fn unknown_entries(&self) -> usize {
        self.unknown.len()
    }

    fn checked(self) -> Result<Self, SlotError> {
        if self.keys.is_empty() || self.keys.len() > MAX_KEYS {
            return Err(SlotError::Count(self.keys.len()));
        }
        Ok(self)
    }

    /// The `len` bytes of slot `number` (0 or 1) of the object `id`.
    pub(crate) fn encode(&self, id: &[u8; 16], number: usize, len: usize) -> Result<Vec<u8>, SlotError> {
        let entries = self.encode_entries()?;
        let have = len - HEAD - DIGEST;
        let need = entries.len();
        if need > have {
            return Err(SlotError::TooLarge { need, have });
        }
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&(need as u16).to_le_bytes());
        out.push(self.entry_count() as u8);
        out.push(if self.verified { VERIFIED } else { 0 });
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&entries);
        out.resize(len - DIGEST, 0);
        let digest = digest(id, number, &out);
        out.extend_from_slice(&digest);
        Ok(out)
    }

    fn entry_count(&self) -> usize {
        self.keys.len() + usize::from(self.sweep_epoch.is_some()) + self.unknown.len()
    }

    fn encode_entries(&self) -> Result<Vec<u8>, SlotError> {
        let mut out = Vec::new();
        let too_long = SlotError::Malformed;
        for key in &self.keys {
            put_field(&mut out, ENTRY_KEY, &key.encode()?).ok_or(too_long)?;
        }
        if let Some(epoch) = self.sweep_epoch {
            put_field(&mut out, ENTRY_EPOCH, &epoch.to_le_bytes()).ok_or(too_long)?;
        }
        for (kind, value) in &self.unknown {
            put_field(&mut out, *kind, value).ok_or(too_long)?;
        }
        Ok(out)
    }

    /// Reads slot `number` of the object `id`; `None` if it was never written.
    pub(crate) fn parse(id: &[u8; 16], number: usize, bytes: &[u8]) -> Result<Option<Self>, SlotError> {
        if all_zero(bytes) {
            return Ok(None);
        }
        let (contents, found) = bytes.split_last_chunk::<DIGEST>().ok_or(SlotError::Malformed)?;
        if digest(id, number, contents) != *found {
            return Err(SlotError::Digest);
        }
        Self::parse_contents(contents).map(Some)
    }

    fn parse_contents(contents: &[u8]) -> Result<Self, SlotError> {
        let mut reader = Reader(contents);
        let (magic, generation, used, count, flags, reserved) = (|| {
            Some((
                reader.array::<4>()?,
                reader.u64()?,
                reader.u16()?,
                reader.u8()?,
                reader.u8()?,
                reader.u32()?,
            ))
        })()
        .ok_or(SlotError::Malformed)?;
        let entries = reader.take(used as usize).ok_or(SlotError::Malformed)?;
        let head_is_good = magic == MAGIC && flags & !VERIFIED == 0 && reserved == 0;
        if !head_is_good || generation == 0 || !all_zero(reader.0) {
            return Err(SlotError::Malformed);
        }
        let mut slot = Self {
            generation,
            verified: flags & VERIFIED != 0,
            keys: Vec::new(),
            sweep_epoch: None,
            unknown: Vec::new(),
        };
        slot.read_entries(entries, count as usize)?;
        slot.checked()
    }

    /// Entries stand in ascending order of their type, so that there is one encoding of a slot.
    fn read_entries(&mut self, entries: &[u8], count: usize) -> Result<(), SlotError> {
        let mut reader = Reader(entries);
        let mut last = 0;
        while !reader.is_empty() {
            let (kind, value) = reader.field().ok_or(SlotError::Malformed)?;
            if kind < last || kind == 0 {
                return Err(SlotError::Malformed);
            }
            last = kind;
            match kind {
                ENTRY_KEY => self.keys.push(WrappedKey::parse(value)?),
                ENTRY_EPOCH if self.sweep_epoch.is_none() => {
                    let epoch = value.try_into().map_err(|_| SlotError::Malformed)?;
                    self.sweep_epoch = Some(u64::from_le_bytes(epoch));
                }
                ENTRY_EPOCH => return Err(SlotError::Malformed),
                _ => self.unknown.push((kind, value.to_vec())),
            }
        }
        if self.entry_count() != count || count > MAX_ENTRIES {
            return Err(SlotError::Malformed);
        }
        Ok(())
    }
}

/// `SHA-256("cofferdam/v1/slot" ‖ id ‖ number ‖ contents)`.
fn digest(id: &[u8; 16], number: usize, contents: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    hash.update(b"cofferdam/v1/slot");
    hash.update(id);
    hash.update([number as u8]);
    hash.update(contents);
    hash.finalize().into()
}

#[cfg(test)]
#[path = "tests/slot.rs"]
mod tests;
