//! Plaintext keys in memory: the DEK of a file and the key of a group.
//!
//! Invariant: key bytes live in one heap allocation that is zeroed when dropped, are never cloned or printed, and are
//! compared in constant time. A key comes from the kernel's generator or from a KMS, never from a failed call.

use std::fmt;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a DEK, a group key and every derived key.
pub const KEY_LEN: usize = 32;

/// The operating system gave no random numbers; nothing was generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the random number generator failed")]
pub struct RandomError;

/// Where random bytes come from. Replaced only in tests.
pub(crate) type RandomSource = fn(&mut [u8]) -> Result<(), RandomError>;

/// Fills `out` from the kernel (getrandom(2)).
///
/// An output of 12 bytes or more that is all zero is taken for a generator that did nothing (one chance in 2^96).
pub(crate) fn fill_random(out: &mut [u8]) -> Result<(), RandomError> {
    fill_from(|bytes| getrandom::fill(bytes).map_err(|_| RandomError), out)
}

fn fill_from(
    source: impl FnOnce(&mut [u8]) -> Result<(), RandomError>,
    out: &mut [u8],
) -> Result<(), RandomError> {
    source(out)?;
    if out.len() >= 12 && out.iter().all(|byte| *byte == 0) {
        return Err(RandomError);
    }
    Ok(())
}

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 32 bytes, zeroed on drop. `Debug` prints the type's name only; there is no `Clone` and no comparison but
        /// [`Self::same_as`].
        pub struct $name(Box<Zeroizing<[u8; KEY_LEN]>>);

        impl $name {
            /// A fresh random key from the kernel's generator.
            pub fn generate() -> Result<Self, RandomError> {
                Self::generate_from(fill_random)
            }

            pub(crate) fn generate_from(source: RandomSource) -> Result<Self, RandomError> {
                let mut key = Self(Box::new(Zeroizing::new([0; KEY_LEN])));
                fill_from(source, &mut key.0[..])?;
                Ok(key)
            }

            /// The key of 32 plaintext bytes that a KMS returned; `None` if it is not 32 bytes long.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                let mut key = Self(Box::new(Zeroizing::new([0; KEY_LEN])));
                if bytes.len() != KEY_LEN {
                    return None;
                }
                key.0.copy_from_slice(bytes);
                Some(key)
            }

            /// The key bytes, for a KMS's wrap call. Never log them, never copy them into a type that outlives the call.
            pub fn expose(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// Constant-time comparison.
            pub fn same_as(&self, other: &Self) -> bool {
                self.0.as_slice().ct_eq(other.0.as_slice()).into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret_key!(
    /// Data encryption key: one for each file (and one for a volume's marker).
    Dek
);
secret_key!(
    /// Wraps the DEKs of one group of files.
    GroupKey
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failing_generator_gives_no_key() {
        assert_eq!(Dek::generate_from(|_| Err(RandomError)).unwrap_err(), RandomError);
    }

    #[test]
    fn a_generator_that_leaves_zeros_gives_no_key() {
        assert_eq!(GroupKey::generate_from(|_| Ok(())).unwrap_err(), RandomError);
    }

    #[test]
    fn debug_output_shows_no_key_byte() {
        let dek = Dek::from_slice(&[0xAB; 32]).unwrap();
        assert_eq!(format!("{dek:?}"), "Dek(..)");
        assert_eq!(format!("{:?}", GroupKey::generate().unwrap()), "GroupKey(..)");
    }

    #[test]
    fn two_generated_keys_differ_and_a_short_slice_is_no_key() {
        assert!(!Dek::generate().unwrap().same_as(&Dek::generate().unwrap()));
        assert!(Dek::from_slice(&[1; 31]).is_none());
        assert!(Dek::from_slice(&[1; 33]).is_none());
    }
}
