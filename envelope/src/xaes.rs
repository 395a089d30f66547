//! XAES-256-GCM (C2SP): AES-256-GCM under a key that is derived from the first half of a 192-bit nonce.
//!
//! Invariant: a nonce prefix of 12 bytes gives one derived key; a session keeps its prefix and draws the other 12 bytes
//! anew for each block, so that derivation costs nothing after the first block and nonces stay those of the standard.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};
use zeroize::Zeroizing;

use crate::keys::KEY_LEN;

/// The first half of a nonce.
pub(crate) type Prefix = [u8; 12];

/// The engine refused a key of the right length: out of memory, or a failed self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineFailure;

/// A 256-bit key with CMAC's first subkey computed.
pub(crate) struct Xaes {
    aes: EncryptingKey,
    k1: Zeroizing<[u8; 16]>,
}

impl Xaes {
    /// Prepares a key (steps 1 and 2 of the derivation).
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Result<Self, EngineFailure> {
        let unbound = UnboundCipherKey::new(&AES_256, key).map_err(|_| EngineFailure)?;
        let aes = EncryptingKey::ecb(unbound).map_err(|_| EngineFailure)?;
        let mut subkey = Zeroizing::new([0; 16]);
        aes.encrypt(&mut subkey[..]).map_err(|_| EngineFailure)?;
        let value = u128::from_be_bytes(*subkey);
        // Doubling in GF(2^128); the mask avoids a branch on a secret bit.
        let doubled = (value << 1) ^ ((value >> 127).wrapping_neg() & 0x87);
        Ok(Self { aes, k1: Zeroizing::new(doubled.to_be_bytes()) })
    }

    /// The AES-256-GCM key of a prefix (steps 3 to 5).
    pub(crate) fn context(&self, prefix: &Prefix) -> Result<LessSafeKey, EngineFailure> {
        let key = self.derive(prefix)?;
        let unbound = UnboundKey::new(&AES_256_GCM, &key[..]).map_err(|_| EngineFailure)?;
        Ok(LessSafeKey::new(unbound))
    }

    fn derive(&self, prefix: &Prefix) -> Result<Zeroizing<[u8; KEY_LEN]>, EngineFailure> {
        let mut out = Zeroizing::new([0; KEY_LEN]);
        for (counter, half) in (1_u8..).zip(out.chunks_exact_mut(16)) {
            half[..4].copy_from_slice(&[0, counter, b'X', 0]);
            half[4..].copy_from_slice(prefix);
            half.iter_mut().zip(self.k1.iter()).for_each(|(m, k)| *m ^= k);
        }
        self.aes.encrypt(&mut out[..]).map_err(|_| EngineFailure)?;
        Ok(out)
    }
}

#[cfg(test)]
#[path = "tests/xaes.rs"]
mod tests;
