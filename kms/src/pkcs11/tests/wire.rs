//! The encodings, byte for byte: they are in headers of files and in tokens for as long as those last.

use std::time::{Duration, SystemTime};

use crate::error::ErrorKind;
use crate::key::{ContextScheme, KeyVersion, Wrapped};
use crate::pkcs11::blob::{Blob, Head};
use crate::pkcs11::version::VersionId;

const ID: [u8; 16] = [0, 0, 0, 2, 0x65, 0xe1, 0xa2, 0xb3, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08];
/// The first 8 bytes of SHA-256 over `cofferdam/pkcs11/v1`, the id and `storage`.
const CHECK: [u8; 8] = [0x8f, 0x12, 0x08, 0x7f, 0x46, 0x95, 0x12, 0x9d];
const IV: [u8; 12] = *b"twelve bytes";
const CTX: [u8; 32] = [0xfb; 32];

fn id() -> VersionId {
    VersionId::parse(&ID).unwrap()
}

fn golden() -> Vec<u8> {
    [[1].as_slice(), &ID, &CHECK, &IV, &[0x5a; 48]].concat()
}

fn wrapped(blob: Vec<u8>) -> Wrapped {
    Wrapped { blob, version: None, scheme: ContextScheme::Aad }
}

#[test]
fn a_blob_is_format_version_check_iv_ciphertext_and_tag() {
    let blob = Blob { head: Head::new("storage", id()), iv: IV, sealed: [0x5a; 48] };
    let expected = Wrapped {
        blob: golden(),
        version: Some(KeyVersion("0000000265e1a2b30102030405060708".into())),
        scheme: ContextScheme::Aad,
    };
    assert_eq!(blob.wrapped(), expected);
    assert_eq!(expected.blob.len(), 85);
    assert_eq!(Blob::parse(&expected).unwrap(), blob);
}

#[test]
fn what_stands_before_the_iv_and_the_context_are_authenticated() {
    let aad = Head::new("storage", id()).aad(&CTX);
    assert_eq!(aad, [[1].as_slice(), &ID, &CHECK, &CTX].concat());
}

#[test]
fn the_check_tells_the_versions_of_one_key_from_those_of_another() {
    let head = Blob::parse(&wrapped(golden())).unwrap().head;
    assert!(head.is_of("storage"));
    assert!(!head.is_of("storage2"));
    for at in 1..25 {
        let mut damaged = golden();
        damaged[at] ^= 0x10;
        assert!(!Blob::parse(&wrapped(damaged)).unwrap().head.is_of("storage"), "byte {at}");
    }
}

#[test]
fn another_format_length_or_scheme_is_refused_without_the_token() {
    let mut other = golden();
    other[0] = 2;
    let longer = [golden(), vec![0]].concat();
    for blob in [other, longer, golden()[..84].to_vec(), Vec::new()] {
        assert_eq!(Blob::parse(&wrapped(blob)), Err(ErrorKind::CiphertextInvalid));
    }
    for scheme in [ContextScheme::None, ContextScheme::Derived, ContextScheme::EncryptionContext] {
        let blob = Wrapped { scheme, ..wrapped(golden()) };
        assert_eq!(Blob::parse(&blob), Err(ErrorKind::CiphertextInvalid));
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn an_id_is_counter_seconds_and_random_bytes() {
    let first = VersionId::after(None, at(0x65e1_a2b3), [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(first.name().0, "0000000165e1a2b30102030405060708");
    assert!(!first.is_later());
    let second = VersionId::after(Some(first), at(0x65e1_a2b3), [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(second, id());
    assert!(second.is_later());
    assert_eq!(second.made_at(), at(1_709_286_067));
}

#[test]
fn the_counter_orders_whatever_the_clocks_say_and_two_at_once_have_an_order_too() {
    let old = VersionId::after(None, at(2_000_000_000), [9; 8]).unwrap();
    let behind = VersionId::after(Some(old), at(1), [0; 8]).unwrap();
    assert!(behind > old, "a clock that stands wrong orders nothing");
    let (one, other) = (
        VersionId::after(Some(old), at(7), [3; 8]).unwrap(),
        VersionId::after(Some(old), at(7), [4; 8]).unwrap(),
    );
    assert!(one < other && one != other);
    assert!(VersionId::after(Some(other), at(0), [0; 8]).unwrap() > other);
}

#[test]
fn a_counter_that_is_used_up_makes_no_version() {
    let last = VersionId::parse(&[0xff; 16]).unwrap();
    assert_eq!(VersionId::after(Some(last), at(0), [0; 8]), None);
    assert_eq!(VersionId::parse(&[0; 15]), None);
}
