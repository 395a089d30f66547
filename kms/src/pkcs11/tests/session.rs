//! What is made of the attributes of a key.
#![allow(clippy::unwrap_used)]

use super::*;

/// Those of a version of ours.
fn ours() -> Vec<Attribute> {
    vec![
        Attribute::Id(vec![1; 16]),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(KEY_LEN.into()),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Local(true),
    ]
}

/// The same without one of them.
fn without(nth: usize) -> Vec<Attribute> {
    let mut attributes = ours();
    attributes.remove(nth);
    attributes
}

#[test]
fn a_key_fits_only_if_the_token_says_that_it_does() {
    let whole = found(Handle(7), &ours()).unwrap();
    assert!(whole.fits && whole.encrypts && whole.decrypts && whole.local && whole.id == [1; 16]);
    for nth in 1..=4 {
        assert!(!found(Handle(7), &without(nth)).unwrap().fits, "{nth}");
    }
    assert_eq!(found(Handle(7), &without(0)).unwrap().id, Vec::<u8>::new());
}

#[test]
fn what_a_key_may_do_and_the_token_does_not_tell_is_no_disabled_key() {
    for nth in [5, 6] {
        let untold = Failure::is(ErrorKind::Integrity("the token does not tell what a key may do"));
        assert_eq!(found(Handle(7), &without(nth)), Err(untold), "{nth}");
    }
}
