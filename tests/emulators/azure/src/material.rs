//! The material of one key version, and what it does to a data key. Invariant: `Debug` shows none of it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// An RSA key pair, or an AES key of 256 bits.
#[derive(Clone)]
pub struct Material(Kind);

#[derive(Clone)]
enum Kind {
    Rsa(Arc<Rsa>),
    Aes(Zeroizing<Vec<u8>>),
}

struct Rsa {
    pkcs8: Zeroizing<Vec<u8>>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    public: OaepPublicEncryptingKey,
    private: OaepPrivateDecryptingKey,
}

/// The form of a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Stored {
    Pkcs8(String),
    Aes(String),
}

impl Material {
    /// A new RSA key pair of 2048, 3072 or 4096 bits; `None`: no such size.
    pub fn rsa(bits: u64) -> Option<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return None,
        };
        let private = PrivateDecryptingKey::generate(size).unwrap();
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&private).unwrap();
        Some(Self::from_pkcs8(pkcs8.as_ref()))
    }

    /// A new AES key of 256 bits.
    pub fn aes() -> Self {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        getrandom::fill(&mut bytes).unwrap();
        Self(Kind::Aes(bytes))
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Self {
        let private = PrivateDecryptingKey::from_pkcs8(pkcs8).unwrap();
        let pair = KeyPair::from_pkcs8(pkcs8).unwrap();
        let public = pair.public_key();
        Self(Kind::Rsa(Arc::new(Rsa {
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
            modulus: public.modulus().big_endian_without_leading_zero().to_vec(),
            exponent: public.exponent().big_endian_without_leading_zero().to_vec(),
            public: OaepPublicEncryptingKey::new(private.public_key()).unwrap(),
            private: OaepPrivateDecryptingKey::new(private).unwrap(),
        })))
    }

    pub(crate) fn pkcs8(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Rsa(rsa) => Some(&rsa.pkcs8),
            Kind::Aes(_) => None,
        }
    }

    /// New material of the same kind and size, as a rotation makes it.
    pub(crate) fn renewed(&self) -> Self {
        match &self.0 {
            Kind::Rsa(rsa) => Self::rsa(8 * rsa.modulus.len() as u64).unwrap(),
            Kind::Aes(_) => Self::aes(),
        }
    }

    /// What a JSON web key shows of it.
    pub(crate) fn public_members(&self) -> Value {
        match &self.0 {
            Kind::Rsa(rsa) => {
                json!({"n": URL_SAFE_NO_PAD.encode(&rsa.modulus), "e": URL_SAFE_NO_PAD.encode(&rsa.exponent)})
            }
            Kind::Aes(_) => json!({}),
        }
    }

    /// Wraps; `None`: the algorithm is not one of this key, or does not take this value.
    pub(crate) fn wrap(&self, algorithm: &str, plain: &[u8]) -> Option<Vec<u8>> {
        match (&self.0, algorithm) {
            (Kind::Rsa(rsa), "RSA-OAEP-256") => {
                let mut out = vec![0; rsa.public.ciphertext_size()];
                let sealed = rsa.public.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut out, None).ok()?;
                Some(sealed.to_vec())
            }
            (Kind::Aes(bytes), "A256KW") => {
                let mut out = vec![0; plain.len() + 15];
                let key = AesKek::new(&AES_256, bytes).unwrap();
                key.wrap(plain, &mut out).ok().map(|sealed| sealed.to_vec())
            }
            _ => None,
        }
    }

    /// Unwraps; `None`: the algorithm is not one of this key, or the value was not wrapped with it.
    pub(crate) fn unwrap(&self, algorithm: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        match (&self.0, algorithm) {
            (Kind::Rsa(rsa), "RSA-OAEP-256") => {
                let mut out = vec![0; rsa.private.min_output_size()];
                let plain = rsa.private.decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut out, None).ok()?;
                Some(plain.to_vec())
            }
            (Kind::Aes(bytes), "A256KW") => {
                let mut out = vec![0; sealed.len()];
                let key = AesKek::new(&AES_256, bytes).unwrap();
                key.unwrap(sealed, &mut out).ok().map(|plain| plain.to_vec())
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(..)")
    }
}

impl Serialize for Material {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = match &self.0 {
            Kind::Rsa(rsa) => Stored::Pkcs8(STANDARD.encode(&*rsa.pkcs8)),
            Kind::Aes(bytes) => Stored::Aes(STANDARD.encode(&**bytes)),
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Material {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Pkcs8(text) => Self::from_pkcs8(&Zeroizing::new(STANDARD.decode(text).unwrap())),
            Stored::Aes(text) => Self(Kind::Aes(Zeroizing::new(STANDARD.decode(text).unwrap()))),
        })
    }
}
