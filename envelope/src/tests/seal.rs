//! Tests of the sector that says at which size a file was left.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Dek, FileDek, Geometry, VolumeId};

fn key(file: u8) -> SealKey {
    key_of(7, file)
}

fn key_of(dek: u8, file: u8) -> SealKey {
    SealKey::new(&Extracted::new(&[dek; 32], &[file; 16]), FileId([file; 16]))
}

#[test]
fn what_was_made_is_what_is_opened_and_needs_no_key_to_be_seen() {
    for seal in [Seal::Open, Seal::Closed(0), Seal::Closed(1), Seal::Closed(u64::MAX)] {
        let sector = key(1).make(seal);
        assert_eq!((key(1).open(&sector), Seal::peek(&sector)), (Ok(seal), Ok(seal)));
        assert!(sector[48..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn any_flipped_bit_of_a_sector_is_noticed() {
    for seal in [Seal::Open, Seal::Closed(8096)] {
        let good = key(1).make(seal);
        for bit in 0..SEAL_LEN * 8 {
            let mut sector = good;
            sector[bit / 8] ^= 1 << (bit % 8);
            let error = key(1).open(&sector).unwrap_err();
            let expected = match bit / 8 {
                0..4 => vec![SealError::Missing],
                4 | 8..16 => vec![SealError::Malformed, SealError::Forged],
                16..48 => vec![SealError::Forged],
                _ => vec![SealError::Malformed],
            };
            assert!(expected.contains(&error), "{seal:?}, bit {bit}: {error}");
        }
    }
}

#[test]
fn a_sector_of_zeros_of_another_file_or_of_another_key_is_no_seal() {
    assert_eq!(key(1).open(&[0; SEAL_LEN]), Err(SealError::Missing));
    assert_eq!(key(1).open(&key(2).make(Seal::Open)), Err(SealError::Forged));
    let other = key_of(8, 1);
    assert_eq!(key(1).open(&other.make(Seal::Closed(5))), Err(SealError::Forged));
}

#[test]
fn only_a_file_with_the_flag_has_a_key_for_its_seal() {
    let dek = || Dek::from_slice(&[7; 32]).unwrap();
    let make =
        |seal| FileDek::create(dek(), FileId([1; 16]), VolumeId([2; 16]), Geometry::new(1).unwrap(), seal);
    let (plain, key) = make(false);
    assert!(!plain.has_seal() && key.seal_key().is_none());
    let (with, made) = make(true);
    assert!(with.has_seal() && with.flags() == (0, SEAL_FLAG, 0));
    assert_eq!(with.check_writable(), Ok(()));
    let sector = made.seal_key().unwrap().make(Seal::Closed(9));
    let found = FileDek::verify(dek(), &with).unwrap().seal_key().unwrap().open(&sector);
    assert_eq!(found, Ok(Seal::Closed(9)));
    assert_eq!(format!("{:?}", made.seal_key()), "Some(SealKey(..))");
}
