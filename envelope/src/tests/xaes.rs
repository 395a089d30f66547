//! XAES-256-GCM against the two vectors of its specification (C2SP, XAES-256-GCM, "Test vectors").
#![allow(clippy::unwrap_used)]

use aws_lc_rs::aead::{Aad, Nonce};

use super::*;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn check(key: u8, k1: &str, derived: &str, aad: &[u8], sealed: &str) {
    let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    let prefix: Prefix = nonce[..12].try_into().unwrap();
    let xaes = Xaes::new(&[key; 32]).unwrap();
    assert_eq!(xaes.k1.to_vec(), hex(k1));
    assert_eq!(xaes.derive(&prefix).unwrap().to_vec(), hex(derived));
    let mut out = b"XAES-256-GCM".to_vec();
    let suffix = nonce[12..].try_into().unwrap();
    let context = xaes.context(&prefix).unwrap();
    let tag = context
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(suffix), Aad::from(aad), &mut out)
        .unwrap();
    out.extend_from_slice(tag.as_ref());
    assert_eq!(out, hex(sealed));
}

#[test]
fn the_first_vector_of_the_specification_comes_out() {
    check(
        1,
        "e531954aca063d5b8d9c47a47d4cc6f0",
        "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
        b"",
        "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
    );
}

#[test]
fn the_second_vector_of_the_specification_comes_out() {
    check(
        3,
        "23810ec50edb99f374409466ed1f4b7b",
        "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
        b"c2sp.org/XAES-256-GCM",
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
    );
}
