//! Identifiers: 16 random bytes that name a file, a volume or a group of files.
//!
//! Invariant: an identifier is public, never derived from a key, a path or a Kubernetes object, and never all zero.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::keys::{RandomError, fill_random};

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not exactly 32 hexadecimal digits.
    #[error("an identifier is 32 hexadecimal digits")]
    NotHex,
    /// Sixteen zero bytes name nothing.
    #[error("an identifier is not all zero")]
    AllZero,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Text form: 32 lower-case hexadecimal digits; upper case is accepted.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A fresh random identifier.
            pub fn generate() -> Result<Self, RandomError> {
                let mut bytes = [0; 16];
                fill_random(&mut bytes)?;
                Ok(Self(bytes))
            }

            /// The 16 bytes as they stand on the volume.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Whether this is the reserved all-zero value.
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 16]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex16(text).map(Self)
            }
        }
    };
}

identifier!(
    /// Names one file for its whole life, across renames, copies and restores.
    FileId
);
identifier!(
    /// Names one volume; a clone or a restored backup has the same one.
    VolumeId
);
identifier!(
    /// Names one group of files whose DEKs are wrapped by one group key.
    GroupId
);

/// Writes `bytes` as lower-case hexadecimal digits.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex16(text: &str) -> Result<[u8; 16], IdError> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return Err(IdError::NotHex);
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    if bytes == [0; 16] {
        return Err(IdError::AllZero);
    }
    Ok(bytes)
}

fn digit(character: u8) -> Result<u8, IdError> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        b'A'..=b'F' => Ok(character - b'A' + 10),
        _ => Err(IdError::NotHex),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_identifier_survives_its_text_form() {
        let id = FileId::generate().unwrap();
        let text = id.to_string();
        assert_eq!(text.len(), 32);
        assert_eq!(text.parse::<FileId>().unwrap(), id);
        assert_eq!(text.to_uppercase().parse::<FileId>().unwrap(), id);
    }

    #[test]
    fn a_text_that_is_not_32_digits_or_is_zero_is_refused() {
        for text in ["", "0g", &"a".repeat(31), &"a".repeat(33), &"é".repeat(16)] {
            assert_eq!(text.parse::<VolumeId>(), Err(IdError::NotHex), "{text}");
        }
        assert_eq!("0".repeat(32).parse::<VolumeId>(), Err(IdError::AllZero));
    }
}
