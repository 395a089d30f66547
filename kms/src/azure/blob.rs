//! A wrapped key as it is stored: what the vault gave, and what it must be told to take it back.
//!
//! The vault's answer to wrapping is bare ciphertext; unwrapping wants the version that wrapped it and the algorithm. So the blob
//! is our own: one byte format (1), one byte algorithm (1 RSA-OAEP-256, 2 A256KW), the 16 bytes of the version's id, the
//! ciphertext. Invariant: a blob has one spelling, and names neither a vault nor a key: those come from the configuration alone.

use std::fmt::Write;

use crate::error::ErrorKind;
use crate::key::{ContextScheme, KeyVersion, Wrapped};

const FORMAT: u8 = 1;
const VERSION_LEN: usize = 16;

/// How a root key wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA-OAEP with SHA-256.
    RsaOaep256,
    /// AES key wrap with 256 bits, of Managed HSM.
    A256Kw,
}

impl Algorithm {
    /// The only good one for each type of key: it need not be configured.
    pub(super) fn of_key_type(kty: &str) -> Option<Self> {
        match kty {
            "RSA" | "RSA-HSM" => Some(Self::RsaOaep256),
            "oct" | "oct-HSM" => Some(Self::A256Kw),
            _ => None,
        }
    }

    /// Its name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::A256Kw => "A256KW",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::RsaOaep256 => 1,
            Self::A256Kw => 2,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::RsaOaep256, Self::A256Kw].into_iter().find(|algorithm| algorithm.code() == code)
    }

    /// Lengths of a wrapped key of 32 bytes: RSA of 2048, 3072 and 4096 bits, AES key wrap.
    fn fits(self, len: usize) -> bool {
        match self {
            Self::RsaOaep256 => matches!(len, 256 | 384 | 512),
            Self::A256Kw => len == 40,
        }
    }
}

/// The id of a version: 32 hexadecimal digits, as both services make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VersionId([u8; VERSION_LEN]);

impl VersionId {
    /// `None`: not as the service writes one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * VERSION_LEN {
            return None;
        }
        let mut id = [0; VERSION_LEN];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(id))
    }

    pub(super) fn text(self) -> String {
        self.0.iter().fold(String::with_capacity(2 * VERSION_LEN), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(super) fn version(self) -> KeyVersion {
        KeyVersion(self.text())
    }
}

/// Of lower case only: an id has one spelling.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A blob whose form is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) version: VersionId,
    pub(super) sealed: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Anything that is not of this form never came from here.
    pub(super) fn of(wrapped: &'a Wrapped) -> Result<Self, ErrorKind> {
        if wrapped.scheme != ContextScheme::None {
            return Err(ErrorKind::CiphertextInvalid);
        }
        Self::parse(&wrapped.blob).ok_or(ErrorKind::CiphertextInvalid)
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let ([FORMAT, algorithm], rest) = bytes.split_first_chunk::<2>()? else { return None };
        let (version, sealed) = rest.split_first_chunk::<VERSION_LEN>()?;
        let algorithm = Algorithm::of_code(*algorithm)?;
        algorithm.fits(sealed.len()).then_some(Self { algorithm, version: VersionId(*version), sealed })
    }

    /// As it is stored. What the vault gave may be of a wrong length.
    pub(super) fn wrapped(self) -> Result<Wrapped, ErrorKind> {
        let Self { algorithm, version, sealed } = self;
        if !algorithm.fits(sealed.len()) {
            return Err(ErrorKind::Integrity("its wrapped key has a wrong length"));
        }
        let blob = [&[FORMAT, algorithm.code()], version.0.as_slice(), sealed].concat();
        Ok(Wrapped { blob, version: Some(version.version()), scheme: ContextScheme::None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn a_blob_is_what_its_description_says_and_comes_back_as_it_was() {
        let version = VersionId::parse(ID).unwrap();
        for (algorithm, code, len) in
            [(Algorithm::RsaOaep256, 1, 256), (Algorithm::RsaOaep256, 1, 512), (Algorithm::A256Kw, 2, 40)]
        {
            let sealed = vec![7; len];
            let wrapped = Blob { algorithm, version, sealed: &sealed }.wrapped().unwrap();
            assert_eq!(wrapped.blob[..4], [1, code, 0x00, 0x11]);
            assert_eq!(wrapped.blob.len(), 18 + len);
            assert_eq!(wrapped.version, Some(KeyVersion(ID.into())));
            let back = Blob::of(&wrapped).unwrap();
            assert_eq!((back.algorithm, back.version, back.sealed), (algorithm, version, sealed.as_slice()));
        }
    }

    #[test]
    fn what_is_not_of_this_form_is_no_blob() {
        let version = VersionId::parse(ID).unwrap();
        let right = Blob { algorithm: Algorithm::A256Kw, version, sealed: &[7; 40] }.wrapped().unwrap();
        let with = |at: usize, byte: u8| {
            let mut wrong = right.clone();
            wrong.blob[at] = byte;
            wrong
        };
        let cut = Wrapped { blob: right.blob[..57].to_vec(), ..right.clone() };
        let bound = Wrapped { scheme: ContextScheme::Aad, ..right.clone() };
        let empty = Wrapped { blob: Vec::new(), ..right.clone() };
        for wrong in [with(0, 2), with(0, 0), with(1, 3), with(1, 1), cut, bound, empty] {
            assert_eq!(Blob::of(&wrong).err(), Some(ErrorKind::CiphertextInvalid), "{wrong:?}");
        }
        assert!(Blob::of(&right).is_ok());
    }

    #[test]
    fn a_version_has_one_spelling() {
        assert_eq!(VersionId::parse(ID).unwrap().text(), ID);
        for wrong in ["", "00", &ID.to_uppercase(), &ID[1..], &format!("{ID}0"), &ID.replace('0', "g")] {
            assert_eq!(VersionId::parse(wrong), None, "{wrong}");
        }
    }
}
