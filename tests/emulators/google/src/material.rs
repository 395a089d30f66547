//! A version's own material, and what it seals.
//!
//! Invariant: what a version sealed opens with that version alone, and with the same associated data. The mark outlives the key, so
//! that a destroyed version is known by what it left.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// How every ciphertext of the service begins.
const HEAD: [u8; 3] = [0x0a, 0x24, 0x00];
const MARK_LEN: usize = 35;
const BODY: u8 = 0x12;
const BODY_AT: usize = HEAD.len() + MARK_LEN;

/// A key of AES-256 and the mark by which its ciphertexts are known.
#[derive(Clone, Serialize, Deserialize)]
pub struct Material {
    key: Option<String>,
    mark: String,
}

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// It has the form of a ciphertext.
pub fn is_ciphertext(bytes: &[u8]) -> bool {
    bytes.len() > BODY_AT + NONCE_LEN && bytes.starts_with(&HEAD) && bytes[BODY_AT] == BODY
}

impl Material {
    pub fn new() -> Self {
        Self { key: Some(STANDARD.encode(random(32))), mark: STANDARD.encode(random(MARK_LEN)) }
    }

    /// What is left of it opens nothing.
    pub fn destroy(&mut self) {
        self.key = None;
    }

    fn key(&self) -> Option<LessSafeKey> {
        let key = STANDARD.decode(self.key.as_ref()?).unwrap();
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap()))
    }

    pub fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        let nonce = random(NONCE_LEN);
        let mut sealed = plaintext.to_vec();
        let used = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        self.key()?.seal_in_place_append_tag(used, Aad::from(aad), &mut sealed).unwrap();
        Some([&HEAD[..], &STANDARD.decode(&self.mark).unwrap(), &[BODY], &nonce, &sealed].concat())
    }

    /// A ciphertext has its mark.
    pub fn sealed(&self, ciphertext: &[u8]) -> bool {
        is_ciphertext(ciphertext) && ciphertext[HEAD.len()..BODY_AT] == STANDARD.decode(&self.mark).unwrap()
    }

    /// Opens what has its mark.
    pub fn open(&self, ciphertext: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ciphertext[BODY_AT + 1..].split_at(NONCE_LEN);
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
        self.key()?.open_in_place(nonce, Aad::from(aad), &mut sealed).ok().map(|plain| plain.to_vec())
    }
}
