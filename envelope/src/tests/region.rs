//! Tests of the two slots and the write that alternates between them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::keys::Dek;
use crate::wrapped::{ContextScheme, Provider, WrappedKey, Wrapping};
use crate::{FileId, VolumeId};

fn key(version: &str) -> WrappedKey {
    let scheme = ContextScheme::Aad;
    WrappedKey::new(Provider::KeyProtect, scheme, "crk", version, vec![1; 300], Wrapping::Direct).unwrap()
}

fn region(pages: u8) -> HeaderRegion {
    let dek = Dek::generate().unwrap();
    let geometry = Geometry::new(pages).unwrap();
    let preamble = Preamble::create(&dek, FileId([1; 16]), VolumeId([2; 16]), geometry);
    Region::create(preamble, KeySlot::first(vec![key("v1")], true).unwrap())
}

/// Applies a rewrap to the bytes as a caller would.
fn rewrap(bytes: &mut [u8], version: &str) -> SlotWrite {
    let region = HeaderRegion::parse(bytes).unwrap().unwrap();
    let next = region.current().unwrap().1.successor(vec![key(version)], true).unwrap();
    let write = region.replacement(&next).unwrap();
    let start = write.offset as usize;
    bytes[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
    let after = HeaderRegion::parse(bytes).unwrap().unwrap();
    assert_eq!(after, region.replaced(&write, next));
    write
}

fn current_version(bytes: &[u8]) -> String {
    let region = HeaderRegion::parse(bytes).unwrap().unwrap();
    region.current().unwrap().1.keys()[0].version.clone()
}

#[test]
fn rewraps_alternate_between_the_slots_for_every_number_of_pages() {
    for pages in 1..=16 {
        let mut bytes = region(pages).encode().unwrap();
        assert_eq!(bytes.len(), usize::from(pages) * 4096);
        for round in 2..7 {
            let version = format!("v{round}");
            let write = rewrap(&mut bytes, &version);
            assert_eq!(write.index, (round + 1) % 2, "{pages} pages, round {round}");
            assert_eq!(current_version(&bytes), version);
        }
    }
}

#[test]
fn a_rewrap_that_is_torn_at_any_byte_leaves_the_old_or_the_new_slot() {
    for pages in [1, 2] {
        let mut before = region(pages).encode().unwrap();
        rewrap(&mut before, "v2");
        let mut after = before.clone();
        let write = rewrap(&mut after, "v3");
        let start = write.offset as usize;
        for torn in 0..=write.bytes.len() {
            let mut bytes = before.clone();
            bytes[start..start + torn].copy_from_slice(&write.bytes[..torn]);
            let expected = if bytes == after { "v3" } else { "v2" };
            assert_eq!(current_version(&bytes), expected, "torn at {torn}");
        }
    }
}

#[test]
fn only_the_successor_of_the_current_slot_is_written() {
    let region = region(1);
    let (_, current) = region.current().unwrap();
    let next = current.successor(vec![key("v2")], true).unwrap();
    let after_next = next.successor(vec![key("v3")], true).unwrap();
    for wrong in [current, &after_next] {
        let error = region.replacement(wrong).unwrap_err();
        let got = wrong.generation();
        assert_eq!(error, SlotError::Generation { expected: 2, got });
    }
}

#[test]
fn a_header_never_written_is_none_whatever_its_length() {
    for len in [0, 1, 511, 512, 4096, 65_536] {
        assert_eq!(HeaderRegion::parse(&vec![0; len]), Ok(None));
    }
}

#[test]
fn a_header_that_is_cut_anywhere_is_an_error() {
    let bytes = region(2).encode().unwrap();
    for len in 1..bytes.len() {
        let error = HeaderRegion::parse(&bytes[..len]).unwrap_err();
        let need = if len < 512 { 512 } else { 8192 };
        assert_eq!(error, HeaderError::Truncated { have: len, need });
    }
    assert_eq!(HeaderRegion::needed_len(&bytes[..512]), Ok(Some(8192)));
}

#[test]
fn two_damaged_slots_are_told_from_two_slots_never_written() {
    let mut bytes = region(1).encode().unwrap();
    bytes[1024 + 100] ^= 1;
    let damaged = HeaderRegion::parse(&bytes).unwrap().unwrap();
    let expected = HeaderError::NoUsableSlot { first: Some(SlotError::Digest), second: None };
    assert_eq!(damaged.current().unwrap_err(), expected);
    assert_eq!(damaged.inactive().unwrap_err(), expected);
}

#[test]
fn a_sector_that_a_flag_announces_is_left_alone_and_one_without_a_flag_is_damage() {
    let mut bytes = region(1).encode().unwrap();
    bytes[600] = 1;
    let damaged = HeaderError::Damaged("reserved bytes");
    assert_eq!(HeaderRegion::parse(&bytes), Err(damaged));
    bytes[24] = 2;
    let crc = crc32c::crc32c(&bytes[..252]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
    let region = HeaderRegion::parse(&bytes).unwrap().unwrap();
    assert_eq!((region.encode().unwrap(), region.claimed_seal()), (bytes, None));
}

#[test]
fn a_rewrap_needs_no_key_for_a_seal_and_leaves_it_alone() {
    for pages in [1, 2] {
        let dek = Dek::generate().unwrap();
        let geometry = Geometry::new(pages).unwrap();
        let (preamble, dek) = crate::FileDek::create(dek, FileId([1; 16]), VolumeId([2; 16]), geometry, true);
        let slot = KeySlot::first(vec![key("v1")], true).unwrap();
        let made = dek.seal_key().unwrap();
        let mut bytes = Region::create(preamble, slot).with_seal(&made, Seal::Closed(7)).encode().unwrap();
        rewrap(&mut bytes, "v2");
        rewrap(&mut bytes, "v3");
        let region = HeaderRegion::parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (region.seal(&made), region.claimed_seal()),
            (Ok(Seal::Closed(7)), Some(Ok(Seal::Closed(7))))
        );
        assert_eq!(region.encode().unwrap(), bytes);
    }
}
