//! Tests of the encoding of one wrapped key.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::GroupId;
use crate::keys::{Dek, GroupKey};
use crate::local_wrap::wrap_dek;

const ORIGIN: VolumeId = VolumeId([1; 16]);
const FILE: FileId = FileId([3; 16]);

fn direct() -> WrappedKey {
    let scheme = ContextScheme::Aad;
    WrappedKey::new(Provider::KeyProtect, scheme, "crk-1", "ver-1", vec![5; 9], Wrapping::Direct).unwrap()
}

fn grouped() -> WrappedKey {
    let (key, dek) = (GroupKey::generate().unwrap(), Dek::generate().unwrap());
    let local = wrap_dek(&key, GroupId([2; 16]), ORIGIN, FILE, &dek).unwrap();
    WrappedKey { wrapping: Wrapping::Grouped(local), ..direct() }
}

#[test]
fn a_wrapped_key_survives_its_bytes() {
    for key in [direct(), grouped()] {
        assert_eq!(WrappedKey::parse(&key.encode().unwrap()), Ok(key));
    }
}

#[test]
fn fields_of_a_later_revision_survive_a_rewrap() {
    let mut bytes = grouped().encode().unwrap();
    put_field(&mut bytes, 0x0100, b"later").unwrap();
    put_field(&mut bytes, 0xffff, b"").unwrap();
    let key = WrappedKey::parse(&bytes).unwrap();
    assert_eq!(key.encode().unwrap(), bytes);
    let rewrapped = key.rewrapped(vec![6; 9], "ver-2").unwrap().encode().unwrap();
    assert!(rewrapped.ends_with(&bytes[bytes.len() - 13..]));
    assert_eq!(rewrapped.len(), bytes.len());
}

#[test]
fn an_unknown_provider_is_kept_by_its_number() {
    let key = WrappedKey { provider: Provider::from_code(900), ..direct() };
    let back = WrappedKey::parse(&key.encode().unwrap()).unwrap();
    assert_eq!(back.provider, Provider::Unknown(900));
    for code in 0..1000 {
        assert_eq!(Provider::from_code(code).code(), code);
    }
}

#[test]
fn a_rewrap_changes_blob_and_version_and_nothing_else() {
    let old = grouped();
    let new = old.rewrapped(vec![8; 20], "ver-2").unwrap();
    assert_eq!((new.blob.len(), new.version.as_str()), (20, "ver-2"));
    assert_eq!((&new.wrapping, &new.root_key), (&old.wrapping, &old.root_key));
    assert_ne!(new.blob_digest(), old.blob_digest());
}

#[test]
fn the_context_is_of_the_group_or_of_the_file() {
    let context = direct().file_context(ORIGIN, FILE);
    assert_eq!(context, KmsContext::file_dek(ORIGIN, FILE));
    let context = grouped().file_context(ORIGIN, FILE);
    assert_eq!(context, KmsContext::group_key(ORIGIN, GroupId([2; 16])));
}

#[test]
fn text_that_is_not_printable_or_too_long_is_refused() {
    let long = "x".repeat(1025);
    for bad in ["new\nline", "é", "\x7f", &long] {
        let key = direct();
        assert_eq!(key.rewrapped(vec![1], bad), Err(WrappedKeyError::Value(VERSION)));
    }
    assert_eq!(direct().rewrapped(vec![], "v"), Err(WrappedKeyError::Value(BLOB)));
    assert_eq!(direct().rewrapped(vec![0; 16_385], "v"), Err(WrappedKeyError::Value(BLOB)));
    let nameless = WrappedKey { root_key: String::new(), ..direct() };
    assert_eq!(nameless.encode(), Err(WrappedKeyError::Value(ROOT_KEY)));
}

#[test]
fn a_missing_repeated_or_disordered_field_is_an_error() {
    let bytes = direct().encode().unwrap();
    assert_eq!(WrappedKey::parse(&[]), Err(WrappedKeyError::Missing(PROVIDER)));
    let repeated = [&bytes[..], &bytes[..]].concat();
    assert_eq!(WrappedKey::parse(&repeated), Err(WrappedKeyError::Malformed));
    assert_eq!(WrappedKey::parse(&bytes[6..]), Err(WrappedKeyError::Missing(PROVIDER)));
    let (first, rest) = bytes.split_at(6);
    let twice_the_first = [first, first, rest].concat();
    assert_eq!(WrappedKey::parse(&twice_the_first), Err(WrappedKeyError::Malformed));
    for cut in 1..bytes.len() {
        assert!(WrappedKey::parse(&bytes[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn wrapping_and_local_wrap_must_agree() {
    let mut bytes = grouped().encode().unwrap();
    let at = 6 + 4;
    assert_eq!(bytes[at], 2);
    bytes[at] = 1;
    assert_eq!(WrappedKey::parse(&bytes), Err(WrappedKeyError::Value(WRAPPING)));
    let mut bytes = direct().encode().unwrap();
    bytes[at] = 2;
    assert_eq!(WrappedKey::parse(&bytes), Err(WrappedKeyError::Missing(LOCAL)));
}
