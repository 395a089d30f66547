//! Tests of one key slot.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::wrapped::{ContextScheme, Provider, Wrapping};

const ID: [u8; 16] = [4; 16];
const LEN: usize = 1536;

fn key(blob: usize) -> WrappedKey {
    let scheme = ContextScheme::None;
    WrappedKey::new(Provider::Transit, scheme, "key", "3", vec![1; blob], Wrapping::Direct).unwrap()
}

#[test]
fn a_slot_survives_its_bytes() {
    let slot = KeySlot::first(vec![key(40), key(50)], true).unwrap();
    let bytes = slot.encode(&ID, 0, LEN).unwrap();
    assert_eq!(bytes.len(), LEN);
    assert_eq!(KeySlot::parse(&ID, 0, &bytes), Ok(Some(slot)));
}

#[test]
fn a_slot_never_written_is_none() {
    assert_eq!(KeySlot::parse(&ID, 0, &[0; LEN]), Ok(None));
}

#[test]
fn a_slot_is_bound_to_its_file_and_its_place() {
    let bytes = KeySlot::first(vec![key(40)], true).unwrap().encode(&ID, 0, LEN).unwrap();
    assert_eq!(KeySlot::parse(&ID, 1, &bytes), Err(SlotError::Digest));
    assert_eq!(KeySlot::parse(&[5; 16], 0, &bytes), Err(SlotError::Digest));
}

#[test]
fn keys_that_do_not_fit_are_refused_with_their_size() {
    let slot = KeySlot::first(vec![key(1000), key(1000)], false).unwrap();
    let error = slot.encode(&ID, 0, LEN).unwrap_err();
    assert!(matches!(error, SlotError::TooLarge { need: 2001.., have: 1484 }), "{error:?}");
    assert!(slot.encode(&ID, 0, 3072).is_ok());
}

#[test]
fn a_key_of_any_size_up_to_the_slot_survives_and_one_byte_more_is_refused() {
    let overhead = KeySlot::first(vec![key(1)], true).unwrap().encode_entries().unwrap().len() - 1;
    let most = LEN - HEAD - DIGEST - overhead;
    for blob in 1..=most {
        let slot = KeySlot::first(vec![key(blob)], true).unwrap();
        let bytes = slot.encode(&ID, 1, LEN).unwrap();
        assert_eq!(KeySlot::parse(&ID, 1, &bytes), Ok(Some(slot)));
    }
    let slot = KeySlot::first(vec![key(most + 1)], true).unwrap();
    assert!(slot.encode(&ID, 1, LEN).is_err());
}

#[test]
fn a_slot_holds_1_to_8_keys() {
    assert_eq!(KeySlot::first(vec![], true), Err(SlotError::Count(0)));
    assert_eq!(KeySlot::first(vec![key(1); 9], true), Err(SlotError::Count(9)));
    assert!(KeySlot::first(vec![key(1); 8], true).is_ok());
}

#[test]
fn verified_is_said_of_the_keys_that_were_written() {
    let first = KeySlot::first(vec![key(1)], true).unwrap();
    let second = first.successor(vec![key(2)], false).unwrap();
    assert!(first.verified() && !second.verified());
    assert_eq!(second.generation(), 2);
    let bytes = second.encode(&ID, 1, LEN).unwrap();
    assert!(!KeySlot::parse(&ID, 1, &bytes).unwrap().unwrap().verified());
}

/// A slot's bytes with other contents under a good digest.
fn with_contents(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = KeySlot::first(vec![key(40)], true).unwrap().encode(&ID, 0, LEN).unwrap();
    bytes.truncate(LEN - DIGEST);
    change(&mut bytes);
    let digest = digest(&ID, 0, &bytes);
    bytes.extend(digest);
    bytes
}

#[test]
fn contents_that_the_format_does_not_allow_are_malformed_even_under_a_good_digest() {
    // Magic, generation 0, used length, count, flags, reserved, and a byte behind the entries.
    for (at, value) in [(0, b'X'), (4, 0), (12, 255), (12, 3), (14, 2), (15, 2), (16, 1), (1400, 1)] {
        let bytes = with_contents(|bytes| bytes[at] = value);
        assert_eq!(KeySlot::parse(&ID, 0, &bytes), Err(SlotError::Malformed), "byte {at}");
    }
}

#[test]
fn entries_of_a_later_revision_survive_a_rewrap_and_are_counted() {
    let bytes = with_contents(|bytes| {
        let used = usize::from(u16::from_le_bytes([bytes[12], bytes[13]]));
        let mut entry = Vec::new();
        put_field(&mut entry, 77, b"later").unwrap();
        let end = HEAD + used;
        bytes[end..end + entry.len()].copy_from_slice(&entry);
        bytes[12..14].copy_from_slice(&((used + entry.len()) as u16).to_le_bytes());
        bytes[14] += 1;
    });
    let slot = KeySlot::parse(&ID, 0, &bytes).unwrap().unwrap();
    assert_eq!(slot.unknown_entries(), 1);
    assert_eq!(slot.encode(&ID, 0, LEN).unwrap(), bytes);
    let next = slot.successor(vec![key(7)], true).unwrap();
    assert_eq!(next.unknown, slot.unknown);
}

#[test]
fn entries_out_of_order_are_malformed() {
    // An epoch before the key that the slot has.
    let bytes = with_contents(|bytes| {
        let used = usize::from(u16::from_le_bytes([bytes[12], bytes[13]]));
        let mut entries = Vec::new();
        put_field(&mut entries, ENTRY_EPOCH, &7_u64.to_le_bytes()).unwrap();
        entries.extend_from_slice(&bytes[HEAD..HEAD + used]);
        bytes[HEAD..HEAD + entries.len()].copy_from_slice(&entries);
        bytes[12..14].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        bytes[14] = 2;
    });
    assert_eq!(KeySlot::parse(&ID, 0, &bytes), Err(SlotError::Malformed));
}

#[test]
fn the_sweep_epoch_survives_a_rewrap() {
    let slot = KeySlot::first(vec![key(1)], true).unwrap().with_sweep_epoch(41);
    let next = slot.successor(vec![key(2)], false).unwrap();
    let bytes = next.encode(&ID, 1, LEN).unwrap();
    let back = KeySlot::parse(&ID, 1, &bytes).unwrap().unwrap();
    assert_eq!(back.sweep_epoch(), Some(41));
}
