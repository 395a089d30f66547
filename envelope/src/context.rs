//! The context that binds a wrap at the KMS to one object and one use.
//!
//! Invariant: it depends on identifiers that travel with the file only, each of fixed length, so that two different
//! triples never hash alike and a restored file keeps its context.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::ids::{FileId, GroupId, VolumeId, write_hex};

/// What a wrapped key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A file's DEK that the KMS wraps itself (`Direct`); the object is the file.
    FileDek,
    /// A group key; the object is the group.
    GroupKey,
    /// The DEK of a volume's marker; the object is the volume.
    VolumeMarker,
}

impl Purpose {
    const fn code(self) -> u8 {
        match self {
            Self::FileDek => 1,
            Self::GroupKey => 2,
            Self::VolumeMarker => 3,
        }
    }
}

/// `SHA-256("cofferdam/ctx/v1" ‖ volume id ‖ object id ‖ purpose)`: 32 bytes that a provider gives to its KMS as
/// additional authenticated data, derivation context or encryption context.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KmsContext {
    hash: [u8; 32],
    volume: VolumeId,
    object: [u8; 16],
    purpose: Purpose,
}

/// What a context binds to, in words: `file ID`, `group ID` or `marker`. For logs: the id tells one object from another, and nothing
/// of its name.
#[derive(Clone, Copy)]
pub struct Bound<'a>(&'a KmsContext);

impl KmsContext {
    /// The context of a file's DEK under `Direct` wrapping. `origin` is the volume in the file's preamble.
    pub fn file_dek(origin: VolumeId, file: FileId) -> Self {
        Self::new(origin, file.0, Purpose::FileDek)
    }

    /// The context of a group key. `origin` is the volume that made the group.
    pub fn group_key(origin: VolumeId, group: GroupId) -> Self {
        Self::new(origin, group.0, Purpose::GroupKey)
    }

    /// The context of the DEK of a volume's marker.
    pub fn volume_marker(volume: VolumeId) -> Self {
        Self::new(volume, volume.0, Purpose::VolumeMarker)
    }

    fn new(volume: VolumeId, object: [u8; 16], purpose: Purpose) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"cofferdam/ctx/v1");
        hash.update(volume.0);
        hash.update(object);
        hash.update([purpose.code()]);
        Self { hash: hash.finalize().into(), volume, object, purpose }
    }

    /// The volume that the object comes from.
    pub const fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The object, to be shown.
    pub const fn object(&self) -> Bound<'_> {
        Bound(self)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.hash
    }
}

impl fmt::Display for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.purpose {
            Purpose::FileDek => write!(f, "file {}", FileId(self.0.object)),
            Purpose::GroupKey => write!(f, "group {}", GroupId(self.0.object)),
            Purpose::VolumeMarker => f.write_str("marker"),
        }
    }
}

impl fmt::Display for KmsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.hash)
    }
}

impl fmt::Debug for KmsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KmsContext({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_depends_on_volume_object_and_purpose() {
        let (one, two) = ([1; 16], [2; 16]);
        let contexts = [
            KmsContext::file_dek(VolumeId(one), FileId(one)),
            KmsContext::file_dek(VolumeId(two), FileId(one)),
            KmsContext::file_dek(VolumeId(one), FileId(two)),
            KmsContext::group_key(VolumeId(one), GroupId(one)),
            KmsContext::volume_marker(VolumeId(one)),
        ];
        for (i, left) in contexts.iter().enumerate() {
            for right in &contexts[i + 1..] {
                assert_ne!(left, right);
            }
        }
    }

    #[test]
    fn a_context_says_what_it_binds_to() {
        let group = KmsContext::group_key(VolumeId([1; 16]), GroupId([9; 16]));
        assert_eq!(group.volume(), VolumeId([1; 16]));
        assert_eq!(group.object().to_string(), format!("group {}", "09".repeat(16)));
        assert_eq!(KmsContext::volume_marker(VolumeId([1; 16])).object().to_string(), "marker");
    }

    #[test]
    fn a_context_is_the_hash_of_the_label_the_identifiers_and_the_purpose() {
        let mut input = b"cofferdam/ctx/v1".to_vec();
        input.extend([7; 16]);
        input.extend([9; 16]);
        input.push(2);
        assert_eq!(input.len(), 49);
        let expected: [u8; 32] = Sha256::digest(&input).into();
        let context = KmsContext::group_key(VolumeId([7; 16]), GroupId([9; 16]));
        assert_eq!(context.as_bytes(), &expected);
    }
}
