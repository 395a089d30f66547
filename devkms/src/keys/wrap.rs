//! The wrapped form of a data key. Invariant: a ciphertext opens only whole, unchanged, with its own AAD and material; everything else is one error.
//!
//! Wire form, opaque to clients: base64 of `{"ciphertext","iv","version","handle"}`. AES-GCM authenticates version and
//! handle besides the caller's strings.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::material::Material;

const FORMAT: &str = "4.0.0";

/// The ciphertext did not open: damaged, or of another key or other AAD. No more is said, on purpose.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("ciphertext does not open")]
pub struct Unopened;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    ciphertext: String,
    iv: String,
    version: String,
    handle: String,
}

/// A ciphertext taken apart but not opened yet.
pub struct Sealed {
    /// Names the material that wrapped it.
    pub handle: String,
    iv: [u8; 12],
    bytes: Vec<u8>,
}

/// Wraps `plaintext` under `material`; `aad` is bound in order.
pub fn wrap(material: &Material, plaintext: &[u8], aad: &[String]) -> Result<String, Unopened> {
    let mut iv = [0; 12];
    getrandom::fill(&mut iv).map_err(|_| Unopened)?;
    let handle = material.handle();
    let mut bytes = plaintext.to_vec();
    aead_key(material)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(bind(&handle, aad)), &mut bytes)
        .map_err(|_| Unopened)?;
    let wire = Wire {
        ciphertext: STANDARD.encode(bytes),
        iv: STANDARD.encode(iv),
        version: FORMAT.to_owned(),
        handle,
    };
    serde_json::to_vec(&wire).map(|json| STANDARD.encode(json)).map_err(|_| Unopened)
}

/// Takes a decoded wire form apart.
pub fn parse(json: &[u8]) -> Result<Sealed, Unopened> {
    let wire: Wire = serde_json::from_slice(json).map_err(|_| Unopened)?;
    if wire.version != FORMAT {
        return Err(Unopened);
    }
    let iv = STANDARD.decode(wire.iv).map_err(|_| Unopened)?;
    Ok(Sealed {
        handle: wire.handle,
        iv: iv.try_into().map_err(|_| Unopened)?,
        bytes: STANDARD.decode(wire.ciphertext).map_err(|_| Unopened)?,
    })
}

impl Sealed {
    /// Opens with the material that [`Sealed::handle`] names.
    pub fn open(&self, material: &Material, aad: &[String]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let mut bytes = Zeroizing::new(self.bytes.clone());
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let length = aead_key(material)?
            .open_in_place(nonce, Aad::from(bind(&self.handle, aad)), &mut bytes)
            .map_err(|_| Unopened)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// AES-GCM with the key length of the material.
pub(super) fn aead_key(material: &Material) -> Result<LessSafeKey, Unopened> {
    let algorithm = match material.expose().len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(Unopened),
    };
    UnboundKey::new(algorithm, material.expose()).map(LessSafeKey::new).map_err(|_| Unopened)
}

/// Every string with its length in front, so that `["ab","c"]` differs from `["a","bc"]`.
fn bind(handle: &str, aad: &[String]) -> Vec<u8> {
    let mut out = FORMAT.as_bytes().to_vec();
    out.extend_from_slice(handle.as_bytes());
    for part in aad {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn aad(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|p| (*p).to_owned()).collect()
    }

    fn open(material: &Material, text: &str, parts: &[&str]) -> Result<Vec<u8>, Unopened> {
        let json = STANDARD.decode(text).map_err(|_| Unopened)?;
        parse(&json)?.open(material, &aad(parts)).map(|z| z.to_vec())
    }

    #[test]
    fn each_key_length_wraps_and_unwraps() {
        for length in [16, 24, 32] {
            let material = Material::new(vec![length as u8; length]);
            let text = wrap(&material, b"a data key", &aad(&["x"])).unwrap();
            assert_eq!(open(&material, &text, &["x"]).unwrap(), b"a data key");
            assert_ne!(text, wrap(&material, b"a data key", &aad(&["x"])).unwrap());
        }
    }

    #[test]
    fn where_one_string_ends_and_their_order_matter() {
        let material = Material::random().unwrap();
        let text = wrap(&material, b"k", &aad(&["ab", "c"])).unwrap();
        assert!(open(&material, &text, &["ab", "c"]).is_ok());
        for wrong in [&["a", "bc"][..], &["c", "ab"], &["abc"], &["ab"], &[]] {
            assert_eq!(open(&material, &text, wrong), Err(Unopened), "{wrong:?}");
        }
    }

    #[test]
    fn no_single_changed_byte_opens() {
        let material = Material::random().unwrap();
        let text = wrap(&material, &[9; 32], &[]).unwrap();
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(open(&material, &damaged, &[]), Err(Unopened), "byte {at}");
        }
        assert_eq!(open(&Material::random().unwrap(), &text, &[]), Err(Unopened));
    }
}
