//! The record of an open group in `.cofferdam/`, by which the next sidecar goes on using it.
//!
//! Invariant: one page, written whole. It names the group and its wrapped key; the commitment lets whoever unwraps the key
//! notice a substituted one before a DEK is wrapped under it.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::PAGE;
use crate::context::KmsContext;
use crate::derive::{Label, derive};
use crate::ids::{GroupId, VolumeId};
use crate::keys::GroupKey;
use crate::wire::{Reader, all_zero};
use crate::wrapped::{WrappedKey, WrappedKeyError, Wrapping};

/// Bytes of a group record: one page.
pub const GROUP_RECORD_LEN: usize = PAGE;
const MAGIC: [u8; 8] = *b"\x89CFDG\r\n\x1a";
const VERSION: u16 = 1;
const HEAD: usize = 96;
const DIGEST_AT: usize = PAGE - 32;

/// Why bytes are not a group record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GroupRecordError {
    /// Another magic number or length.
    #[error("not a group record")]
    NotOurs,
    /// A later version of the record.
    #[error("group record version {0} is not supported")]
    UnsupportedVersion(u16),
    /// The digest does not fit, or a reserved byte is not zero.
    #[error("the group record is damaged")]
    Damaged,
    /// The wrapped key is malformed or too large for the page.
    #[error("read or write the wrapped group key")]
    Key(#[from] WrappedKeyError),
    /// The group key is wrapped by the KMS itself, and fits the page.
    #[error("the wrapped group key does not fit the record")]
    DoesNotFit,
    /// The key is not the one that the record commits to.
    #[error("the key is not the one that the group record commits to")]
    WrongKey,
}

/// An open group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// The group.
    pub group: GroupId,
    /// The volume that made the group.
    pub origin: VolumeId,
    /// When the group was made, in seconds since 1970 (UTC), by the clock of whoever made it.
    pub created: i64,
    /// DEKs that the group key has wrapped, at least; raised in steps before they are used.
    pub count: u64,
    /// The group key, wrapped by the KMS.
    pub key: WrappedKey,
    commitment: [u8; 32],
}

impl GroupRecord {
    /// The record of a new group. `wrapped` is what the KMS made of `key`, with [`Wrapping::Direct`].
    pub fn create(
        key: &GroupKey,
        group: GroupId,
        origin: VolumeId,
        created: i64,
        wrapped: WrappedKey,
    ) -> Self {
        Self {
            group,
            origin,
            created,
            count: 0,
            key: wrapped,
            commitment: *derive(key.expose(), &group.0, Label::GroupCommitment, &[]),
        }
    }

    /// The context that the group key was wrapped with.
    pub fn context(&self) -> KmsContext {
        KmsContext::group_key(self.origin, self.group)
    }

    /// Whether `key` is this group's key, in constant time.
    pub fn verify(&self, key: &GroupKey) -> Result<(), GroupRecordError> {
        let commitment = derive(key.expose(), &self.group.0, Label::GroupCommitment, &[]);
        if bool::from(commitment.as_slice().ct_eq(&self.commitment)) {
            Ok(())
        } else {
            Err(GroupRecordError::WrongKey)
        }
    }

    /// The record's page.
    pub fn encode(&self) -> Result<Vec<u8>, GroupRecordError> {
        let key = self.key.encode()?;
        if HEAD + key.len() > DIGEST_AT || self.key.wrapping != Wrapping::Direct {
            return Err(GroupRecordError::DoesNotFit);
        }
        let mut out = Vec::with_capacity(PAGE);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.group.0);
        out.extend_from_slice(&self.origin.0);
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&key);
        out.resize(DIGEST_AT, 0);
        let digest = digest(&out);
        out.extend_from_slice(&digest);
        Ok(out)
    }

    /// Reads one page; never panics.
    pub fn parse(bytes: &[u8]) -> Result<Self, GroupRecordError> {
        let bytes: &[u8; PAGE] = bytes.try_into().map_err(|_| GroupRecordError::NotOurs)?;
        if bytes[..8] != MAGIC {
            return Err(GroupRecordError::NotOurs);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(GroupRecordError::UnsupportedVersion(version));
        }
        if digest(&bytes[..DIGEST_AT]) != bytes[DIGEST_AT..] {
            return Err(GroupRecordError::Damaged);
        }
        Self::fields(&bytes[10..DIGEST_AT]).unwrap_or(Err(GroupRecordError::Damaged))
    }

    fn fields(bytes: &[u8]) -> Option<Result<Self, GroupRecordError>> {
        let mut reader = Reader(bytes);
        let key_len = reader.u16()?;
        let reserved = reader.u32()?;
        let group = GroupId(reader.array()?);
        let origin = VolumeId(reader.array()?);
        let created = i64::from_le_bytes(reader.array()?);
        let count = reader.u64()?;
        let commitment = reader.array()?;
        let key = match WrappedKey::parse(reader.take(key_len as usize)?) {
            Ok(key) => key,
            Err(error) => return Some(Err(error.into())),
        };
        if reserved != 0 || !all_zero(reader.0) || key.wrapping != Wrapping::Direct {
            return None;
        }
        Some(Ok(Self { group, origin, created, count, key, commitment }))
    }
}

/// `SHA-256("cofferdam/v1/group" ‖ contents)`.
fn digest(contents: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"cofferdam/v1/group");
    hash.update(contents);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wrapped::{ContextScheme, Provider};

    fn record() -> (GroupKey, GroupRecord) {
        let key = GroupKey::generate().unwrap();
        let wrapped = WrappedKey::new(
            Provider::KeyProtect,
            ContextScheme::Aad,
            "crk",
            "v1",
            vec![7; 300],
            Wrapping::Direct,
        )
        .unwrap();
        let mut record =
            GroupRecord::create(&key, GroupId([4; 16]), VolumeId([5; 16]), 1_790_000_000, wrapped);
        record.count = 4096;
        (key, record)
    }

    #[test]
    fn a_group_record_survives_its_page() {
        let (key, record) = record();
        let page = record.encode().unwrap();
        assert_eq!(page.len(), GROUP_RECORD_LEN);
        let back = GroupRecord::parse(&page).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.verify(&key), Ok(()));
        let other = GroupKey::generate().unwrap();
        assert_eq!(back.verify(&other), Err(GroupRecordError::WrongKey));
    }

    #[test]
    fn any_flipped_bit_of_a_group_record_is_an_error() {
        let page = record().1.encode().unwrap();
        for bit in 0..page.len() * 8 {
            let mut changed = page.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupRecord::parse(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_not_called_damaged() {
        let mut page = record().1.encode().unwrap();
        page[8] = 2;
        let result = GroupRecord::parse(&page);
        assert_eq!(result, Err(GroupRecordError::UnsupportedVersion(2)));
        assert_eq!(GroupRecord::parse(&[]), Err(GroupRecordError::NotOurs));
    }

    #[test]
    fn a_blob_that_does_not_fit_the_page_is_refused() {
        let (_, mut record) = record();
        record.key = record.key.rewrapped(vec![1; 4000], "v2").unwrap();
        assert_eq!(record.encode(), Err(GroupRecordError::DoesNotFit));
    }
}
