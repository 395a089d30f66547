//! A DEK wrapped locally by a group key: AES-256-GCM (NIST SP 800-38D), random 96-bit nonce.
//!
//! Invariant: the wrap opens only under the same group key for the same volume, group and file. A group key wraps at most
//! 65,536 DEKs (a few more after crashes), so that random nonces never come near their limit of 2^32.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ids::{FileId, GroupId, VolumeId};
use crate::keys::{Dek, GroupKey, KEY_LEN, RandomError, RandomSource, fill_random};
use crate::wire::Reader;

/// Bytes of an encoded local wrap: group id, nonce, ciphertext, tag.
pub const LOCAL_WRAP_LEN: usize = 16 + 12 + KEY_LEN + 16;

/// Why a DEK was not wrapped or unwrapped locally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LocalWrapError {
    /// No nonce: nothing was wrapped.
    #[error("draw a nonce")]
    Random(#[from] RandomError),
    /// Another group key, another file, volume or group, or a changed byte.
    #[error("the wrapped data key does not open under this group key for this file")]
    Refused,
}

/// A DEK under a group key, as it stands in a file's header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalWrap {
    group: GroupId,
    nonce: [u8; 12],
    sealed: [u8; KEY_LEN],
    tag: [u8; 16],
}

impl LocalWrap {
    /// The group whose key wraps the DEK.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The 76 bytes: group id, nonce, ciphertext, tag.
    pub fn encode(&self) -> [u8; LOCAL_WRAP_LEN] {
        let mut out = [0; LOCAL_WRAP_LEN];
        out[..16].copy_from_slice(&self.group.0);
        out[16..28].copy_from_slice(&self.nonce);
        out[28..60].copy_from_slice(&self.sealed);
        out[60..].copy_from_slice(&self.tag);
        out
    }

    /// Reads exactly 76 bytes; `None` for another length.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let wrap = Self {
            group: GroupId(reader.array()?),
            nonce: reader.array()?,
            sealed: reader.array()?,
            tag: reader.array()?,
        };
        reader.is_empty().then_some(wrap)
    }
}

/// Wraps `dek` for `file` under the key of `group`. `origin` is the volume in the file's preamble.
pub fn wrap_dek(
    key: &GroupKey,
    group: GroupId,
    origin: VolumeId,
    file: FileId,
    dek: &Dek,
) -> Result<LocalWrap, LocalWrapError> {
    wrap_with(key, group, origin, file, dek, fill_random)
}

/// Unwraps the DEK of `file`. The caller then lets the file's preamble verify it.
pub fn unwrap_dek(
    key: &GroupKey,
    origin: VolumeId,
    file: FileId,
    wrap: &LocalWrap,
) -> Result<Dek, LocalWrapError> {
    let mut plain = Zeroizing::new(wrap.sealed);
    let aad = bound_to(origin, wrap.group, file);
    Aes256Gcm::new(key.expose().into())
        .decrypt_inout_detached(&Nonce::from(wrap.nonce), &aad, plain.as_mut_slice().into(), &wrap.tag.into())
        .map_err(|_| LocalWrapError::Refused)?;
    Dek::from_slice(&plain[..]).ok_or(LocalWrapError::Refused)
}

pub(crate) fn wrap_with(
    key: &GroupKey,
    group: GroupId,
    origin: VolumeId,
    file: FileId,
    dek: &Dek,
    random: RandomSource,
) -> Result<LocalWrap, LocalWrapError> {
    let mut nonce = [0; 12];
    random(&mut nonce)?;
    let mut sealed = Zeroizing::new(*dek.expose());
    let aad = bound_to(origin, group, file);
    let tag = Aes256Gcm::new(key.expose().into())
        .encrypt_inout_detached(&Nonce::from(nonce), &aad, sealed.as_mut_slice().into())
        .expect("32 bytes are within the limit of AES-GCM");
    Ok(LocalWrap { group, nonce, sealed: *sealed, tag: tag.into() })
}

/// AAD: `"cofferdam/local1" ‖ origin volume ‖ group ‖ file`, 64 bytes.
fn bound_to(origin: VolumeId, group: GroupId, file: FileId) -> [u8; 64] {
    let mut aad = [0; 64];
    aad[..16].copy_from_slice(b"cofferdam/local1");
    aad[16..32].copy_from_slice(&origin.0);
    aad[32..48].copy_from_slice(&group.0);
    aad[48..].copy_from_slice(&file.0);
    aad
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ORIGIN: VolumeId = VolumeId([1; 16]);
    const GROUP: GroupId = GroupId([2; 16]);
    const FILE: FileId = FileId([3; 16]);

    fn wrapped() -> (GroupKey, Dek, LocalWrap) {
        let (key, dek) = (GroupKey::generate().unwrap(), Dek::generate().unwrap());
        let wrap = wrap_dek(&key, GROUP, ORIGIN, FILE, &dek).unwrap();
        (key, dek, wrap)
    }

    #[test]
    fn a_wrapped_dek_unwraps_to_itself_through_its_bytes() {
        let (key, dek, wrap) = wrapped();
        let wrap = LocalWrap::parse(&wrap.encode()).unwrap();
        let back = unwrap_dek(&key, ORIGIN, FILE, &wrap).unwrap();
        assert!(back.same_as(&dek));
        assert_eq!(wrap.group(), GROUP);
    }

    #[test]
    fn any_flipped_bit_of_a_local_wrap_is_refused() {
        let (key, _, wrap) = wrapped();
        let bytes = wrap.encode();
        for bit in 0..LOCAL_WRAP_LEN * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = LocalWrap::parse(&changed).unwrap();
            let result = unwrap_dek(&key, ORIGIN, FILE, &changed);
            assert_eq!(result.unwrap_err(), LocalWrapError::Refused, "bit {bit}");
        }
    }

    #[test]
    fn a_dek_opens_only_for_its_own_file_volume_and_group_key() {
        let (key, _, wrap) = wrapped();
        let other = GroupKey::generate().unwrap();
        assert!(unwrap_dek(&other, ORIGIN, FILE, &wrap).is_err());
        assert!(unwrap_dek(&key, VolumeId([9; 16]), FILE, &wrap).is_err());
        assert!(unwrap_dek(&key, ORIGIN, FileId([9; 16]), &wrap).is_err());
    }

    #[test]
    fn a_failing_generator_wraps_nothing() {
        let (key, dek, _) = wrapped();
        let result = wrap_with(&key, GROUP, ORIGIN, FILE, &dek, |_| Err(RandomError));
        assert_eq!(result.unwrap_err(), LocalWrapError::Random(RandomError));
    }

    #[test]
    fn wrapping_twice_gives_two_nonces() {
        let (key, dek, first) = wrapped();
        let second = wrap_dek(&key, GROUP, ORIGIN, FILE, &dek).unwrap();
        assert_ne!(first.nonce, second.nonce);
    }

    #[test]
    fn another_length_is_no_local_wrap() {
        for len in [0, 1, LOCAL_WRAP_LEN - 1, LOCAL_WRAP_LEN + 1] {
            assert!(LocalWrap::parse(&vec![0; len]).is_none());
        }
    }
}
