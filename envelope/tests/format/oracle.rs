//! A second implementation of the cryptography, from the specification alone, over other libraries: `aes` and `aes-gcm`
//! where the crate seals with `aws-lc-rs`, and no type of the crate.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{Aes256Gcm, Nonce};
use envelope::{BlockCipher, FileId, Opened, PAGE, PAYLOAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha512};

use crate::sample::{file, header, page, pattern};

/// HKDF-SHA-512 with the identifier at byte 32 of the header as salt.
pub fn hkdf(dek: &[u8], header: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha512>::new(Some(&header[32..48]), dek).expand(&info.concat(), &mut out).unwrap();
    out
}

fn aes(key: &[u8; 32], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    Aes256::new(key.into()).encrypt_block(&mut block);
    block.into()
}

/// AES-256-CMAC (SP 800-38B) of one whole block, bit by bit.
fn cmac_one_block(key: &[u8; 32], message: [u8; 16]) -> [u8; 16] {
    let l = aes(key, [0; 16]);
    let mut k1 = [0; 16];
    for i in 0..16 {
        k1[i] = l[i] << 1 | l.get(i + 1).map_or(0, |next| next >> 7);
    }
    if l[0] & 0x80 != 0 {
        k1[15] ^= 0x87;
    }
    let mut input = message;
    input.iter_mut().zip(k1).for_each(|(m, k)| *m ^= k);
    aes(key, input)
}

/// XAES-256-GCM: the derived AES-256-GCM key of a nonce's first half.
fn xaes_key(key: &[u8; 32], nonce: &[u8]) -> [u8; 32] {
    let mut out = Vec::new();
    for counter in [1, 2] {
        let mut message = [0, counter, 0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        message[4..].copy_from_slice(&nonce[..12]);
        out.extend(cmac_one_block(key, message));
    }
    out.try_into().unwrap()
}

/// The 4096 bytes that block `index` must have, given its nonce.
pub fn seal(dek: &[u8], header: &[u8], index: u64, nonce: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let key = hkdf(dek, header, &[b"cofferdam/v1/file/data", &header[8..32]]);
    let len = (plaintext.len() as u16).to_le_bytes();
    let mut padded = plaintext.to_vec();
    padded.resize(4048, 0);
    let aad = [&index.to_be_bytes()[..], &len, &[0; 6]].concat();
    let payload = Payload { msg: &padded, aad: &aad };
    let suffix: [u8; 12] = nonce[12..24].try_into().unwrap();
    let sealed =
        Aes256Gcm::new((&xaes_key(&key, nonce)).into()).encrypt(&Nonce::from(suffix), payload).unwrap();
    [nonce, &len, &[0; 6], &sealed].concat()
}

/// Whether the 512 bytes are a preamble (`kind` = `file`) or marker of `dek`, field by field.
pub fn check_frame(dek: &[u8], header: &[u8], kind: &str) {
    let label = |what: &str| format!("cofferdam/v1/{kind}/{what}").into_bytes();
    assert_eq!(header[48..80], hkdf(dek, header, &[&label("commit")]));
    let mac_key = hkdf(dek, header, &[&label("header")]);
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&mac_key).unwrap();
    mac.update(&header[..192]);
    assert_eq!(header[192..224], mac.finalize().into_bytes()[..]);
    assert_eq!(header[252..256], crc32c_bit_by_bit(&header[..252]).to_le_bytes());
}

/// Whether the sector behind the preamble is a seal of `dek` that is closed at `size`, or open.
pub fn check_seal(dek: &[u8], header: &[u8], size: Option<u64>) {
    let key = hkdf(dek, header, &[b"cofferdam/v1/file/seal"]);
    let state = if size.is_some() { 2 } else { 1 };
    let size = size.unwrap_or(0).to_le_bytes();
    let fields = [b"CFSE", &[state, 0, 0, 0][..], &size].concat();
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
    mac.update(&[b"cofferdam/v1/seal", &header[32..48], &fields].concat());
    let sector = [&fields[..], &mac.finalize().into_bytes(), &[0; 464]].concat();
    assert_eq!(header[512..1024], sector);
}

/// Whether a slot's digest fits.
pub fn check_slot(id: &[u8], number: u8, slot: &[u8]) {
    let (contents, digest) = slot.split_at(slot.len() - 32);
    let input = [b"cofferdam/v1/slot", id, &[number], contents].concat();
    assert_eq!(digest, &Sha256::digest(input)[..]);
}

fn crc32c_bit_by_bit(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn the_oracle_knows_the_published_values_of_its_parts() {
    // CRC-32C of "123456789", and the first XAES-256-GCM vector of C2SP.
    assert_eq!(crc32c_bit_by_bit(b"123456789"), 0xE306_9283);
    let key = xaes_key(&[1; 32], b"ABCDEFGHIJKL");
    assert_eq!(key[..4], [0xC8, 0x61, 0x2C, 0x9E]);
    assert_eq!(key[28..], [0xD0, 0xFA, 0x96, 0x9B]);
}

#[test]
fn every_field_of_a_header_is_what_the_oracle_computes() {
    let mut sample = file(1, b"x");
    crate::sample::rewrap(&mut sample.bytes, "v2");
    check_frame(sample.dek.expose(), &sample.bytes, "file");
    check_slot(&sample.bytes[32..48], 0, &sample.bytes[1024..2560]);
    check_slot(&sample.bytes[32..48], 1, &sample.bytes[2560..4096]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_sealed_block_is_the_one_that_the_oracle_seals(
        seed: u64,
        len in prop_oneof![1..=20_usize, 1..=4 * PAYLOAD, Just(PAYLOAD), Just(2 * PAYLOAD)],
        pages in 1_u8..=3,
        far in prop_oneof![Just(0_u64), any::<u64>()],
    ) {
        let plaintext = pattern(seed, len);
        let sample = file(pages, &plaintext);
        for (index, chunk) in plaintext.chunks(PAYLOAD).enumerate() {
            let page = page(&sample.bytes, pages, index as u64);
            let expected = seal(sample.dek.expose(), &sample.bytes, index as u64, &page[..24], chunk);
            prop_assert_eq!(&page[..], &expected[..]);
        }
        // Into a buffer that held something else: nothing of it is sealed along.
        let cipher = BlockCipher::new(&sample.dek, header(&sample.bytes).preamble()).unwrap();
        let first = &plaintext[..len.min(PAYLOAD)];
        let mut dirty = [0xEE; PAGE];
        cipher.seal_block(far, first, &mut dirty).unwrap();
        let expected = seal(sample.dek.expose(), &sample.bytes, far, &dirty[..24], first);
        prop_assert_eq!(&dirty[..], &expected[..]);
        // A block far into the file, and the way back: the crate opens what the oracle sealed.
        let nonce = pattern(!seed, 24);
        let sealed: [u8; PAGE] = seal(sample.dek.expose(), &sample.bytes, far, &nonce, first).try_into().unwrap();
        let mut out = [0xEE; PAYLOAD];
        prop_assert_eq!(cipher.open_block(far, &sealed, &mut out), Ok(Opened::Data(first.len())));
        prop_assert_eq!(&out[..first.len()], first);
        prop_assert!(out[first.len()..].iter().all(|byte| *byte == 0));
        prop_assert_ne!(header(&sample.bytes).preamble().file_id(), FileId([0; 16]));
    }
}
