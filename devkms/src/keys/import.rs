//! The import token: how an owner brings key material that the wire never carries in the clear.
//! Invariant: material is taken only with proof that the sender holds both it and the token's nonce.

use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Material;
use super::wrap::aead_key;
use crate::clock::Seconds;
use crate::error::{ApiError, Reason};

/// What one instance offers to importers until it expires or was fetched often enough.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportToken {
    pub created: Seconds,
    pub expires: Seconds,
    pub max_retrievals: u32,
    pub remaining: u32,
    /// 12 random bytes.
    pub nonce: Material,
    /// RSA-4096, PKCS#8.
    private_key: Material,
}

/// The private key could not be made or read back.
#[derive(Debug, thiserror::Error)]
#[error("handle the import token's RSA key")]
pub struct ImportKeyError;

impl ImportToken {
    /// A fresh RSA-4096 pair and nonce; takes about a second of CPU.
    pub fn generate(now: Seconds, lifetime: Seconds, max_retrievals: u32) -> Result<Self, ImportKeyError> {
        let pair = PrivateDecryptingKey::generate(KeySize::Rsa4096).map_err(|_| ImportKeyError)?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| ImportKeyError)?;
        let mut nonce = vec![0; 12];
        getrandom::fill(&mut nonce).map_err(|_| ImportKeyError)?;
        Ok(Self {
            created: now,
            expires: now + lifetime,
            max_retrievals,
            remaining: max_retrievals,
            nonce: Material::new(nonce),
            private_key: Material::new(der.as_ref().to_vec()),
        })
    }

    /// The public key as a PEM block of type PUBLIC KEY.
    pub fn public_pem(&self) -> Result<String, ImportKeyError> {
        let public = self.private()?.public_key();
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(&public).map_err(|_| ImportKeyError)?;
        let body = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    /// Decrypts `payload` (RSA-OAEP) and checks the proof (`encrypted_nonce` under the material with `iv`).
    pub fn receive(&self, sent: &Sent, now: Seconds) -> Result<Material, ApiError> {
        if self.expires <= now {
            return Err(Reason::ImportTokenExpired.into());
        }
        let key = self.private().map_err(|_| Reason::Internal)?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(|_| Reason::Internal)?;
        let algorithm = match sent.algorithm.as_deref() {
            None | Some("RSAES_OAEP_SHA_256") => &OAEP_SHA256_MGF1SHA256,
            Some("RSAES_OAEP_SHA_1") => &OAEP_SHA1_MGF1SHA1,
            Some(_) => return Err(ApiError::field("encryptionAlgorithm")),
        };
        let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
        let opened =
            key.decrypt(algorithm, &sent.payload, &mut out, None).map_err(|_| ApiError::field("payload"))?;
        let material = Material::new(opened.to_vec());
        if !material.is_aes_key() {
            return Err(ApiError::field("payload"));
        }
        let nonce = open_nonce(&material, sent).ok_or(Reason::IncorrectNonceIv)?;
        if nonce.as_slice() != self.nonce.expose() {
            return Err(Reason::IncorrectNonce.into());
        }
        Ok(material)
    }

    fn private(&self) -> Result<PrivateDecryptingKey, ImportKeyError> {
        PrivateDecryptingKey::from_pkcs8(self.private_key.expose()).map_err(|_| ImportKeyError)
    }
}

/// What an importer sends, decoded from base64.
pub struct Sent {
    pub payload: Vec<u8>,
    pub encrypted_nonce: Vec<u8>,
    /// 12 bytes for AES-GCM; 16 for the AES-CBC of Hyper Protect Crypto Services.
    pub iv: Vec<u8>,
    pub algorithm: Option<String>,
}

fn open_nonce(material: &Material, sent: &Sent) -> Option<Vec<u8>> {
    let mut bytes = sent.encrypted_nonce.clone();
    if let Ok(iv) = <[u8; 12]>::try_from(sent.iv.as_slice()) {
        let key = aead_key(material).ok()?;
        let opened = key.open_in_place(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut bytes).ok()?;
        return Some(opened.to_vec());
    }
    let iv = <[u8; 16]>::try_from(sent.iv.as_slice()).ok()?;
    let algorithm = match material.expose().len() {
        16 => &AES_128,
        24 => &AES_192,
        _ => &AES_256,
    };
    let key = UnboundCipherKey::new(algorithm, material.expose()).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let opened = key.decrypt(&mut bytes, DecryptionContext::Iv128(iv.into())).ok()?;
    Some(opened.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use aws_lc_rs::cipher::PaddedBlockEncryptingKey;
    use aws_lc_rs::rsa::{OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey};

    fn encrypt(token: &ImportToken, algorithm: &'static OaepAlgorithm, plain: &[u8]) -> Vec<u8> {
        let pem = token.public_pem().unwrap();
        let body: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
        let key = PublicEncryptingKey::from_der(&STANDARD.decode(body).unwrap()).unwrap();
        let key = OaepPublicEncryptingKey::new(key).unwrap();
        let mut out = vec![0; key.ciphertext_size()];
        key.encrypt(algorithm, plain, &mut out, None).unwrap().to_vec()
    }

    fn gcm(material: &Material, iv: [u8; 12], nonce: &[u8]) -> Vec<u8> {
        let mut bytes = nonce.to_vec();
        let key = aead_key(material).unwrap();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn material_is_taken_with_the_right_proof_only() {
        let token = ImportToken::generate(100, 600, 1).unwrap();
        let material = Material::random().unwrap();
        let sent = |iv: [u8; 12], nonce: &[u8]| Sent {
            payload: encrypt(&token, &OAEP_SHA256_MGF1SHA256, material.expose()),
            encrypted_nonce: gcm(&material, [1; 12], nonce),
            iv: iv.to_vec(),
            algorithm: Some("RSAES_OAEP_SHA_256".into()),
        };
        let good = sent([1; 12], token.nonce.expose());
        assert_eq!(token.receive(&good, 699).unwrap().expose(), material.expose());
        assert_eq!(token.receive(&good, 700).unwrap_err().code(), "IMPORT_TOKEN_EXPIRED_ERR");
        assert_eq!(
            token.receive(&sent([2; 12], token.nonce.expose()), 200).unwrap_err().code(),
            "INCORRECT_NONCE_IV_ERR"
        );
        assert_eq!(token.receive(&sent([1; 12], &[0; 12]), 200).unwrap_err().code(), "INCORRECT_NONCE_ERR");
    }

    #[test]
    fn the_older_service_s_sha1_and_cbc_form_is_taken() {
        let token = ImportToken::generate(100, 600, 1).unwrap();
        let material = Material::random().unwrap();
        let key = UnboundCipherKey::new(&AES_256, material.expose()).unwrap();
        let mut nonce = token.nonce.expose().to_vec();
        let context = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap().encrypt(&mut nonce).unwrap();
        let iv: &[u8] = (&context).try_into().unwrap();
        let sent = Sent {
            payload: encrypt(&token, &OAEP_SHA1_MGF1SHA1, material.expose()),
            encrypted_nonce: nonce,
            iv: iv.to_vec(),
            algorithm: Some("RSAES_OAEP_SHA_1".into()),
        };
        assert_eq!(token.receive(&sent, 200).unwrap().expose(), material.expose());
    }
}
