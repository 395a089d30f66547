//! Key material: 16, 24 or 32 bytes of an AES key. Invariant: wiped when dropped, never printed.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The material of one key version, or the payload of a standard key.
///
/// It is serializable because this KMS is for development: its store holds root keys in the clear, readable by its user alone.
#[derive(Clone)]
pub struct Material(Zeroizing<Vec<u8>>);

impl Material {
    /// Takes over the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// 32 bytes of the kernel's random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether AES takes a key of this length.
    pub fn is_aes_key(&self) -> bool {
        matches!(self.0.len(), 16 | 24 | 32)
    }

    /// The name by which a ciphertext finds its version: one-way, and equal for equal material, so that a root key
    /// with the same imported material opens the same ciphertext.
    pub fn handle(&self) -> String {
        let digest =
            Sha256::new().chain_update(b"cofferdam/devkms/handle/v1").chain_update(self.expose()).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(..)")
    }
}

impl Serialize for Material {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Material {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD
            .decode(text.as_bytes())
            .map(Self::new)
            .map_err(|_| serde::de::Error::custom("key material is not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_material_has_one_handle_and_debug_shows_none_of_it() {
        let one = Material::new(vec![7; 32]);
        assert_eq!(one.handle(), Material::new(vec![7; 32]).handle());
        assert_ne!(one.handle(), Material::new(vec![8; 32]).handle());
        assert_eq!(format!("{one:?}"), "Material(..)");
    }
}
