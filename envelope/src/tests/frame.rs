//! Tests of the frame that need to forge one: what a holder of the key, or somebody with a checksum only, could write.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{FileId, Preamble, VolumeId, VolumeMarker};
use crate::{MarkerOptions, Ownership};

fn sample() -> (Dek, Preamble) {
    let dek = Dek::generate().unwrap();
    let geometry = Geometry::new(1).unwrap();
    let preamble = Preamble::create(&dek, FileId([1; 16]), VolumeId([2; 16]), geometry);
    (dek, preamble)
}

/// Changes one byte and repairs the checksum, as somebody without the key can.
fn forge(bytes: &[u8; FRAME_LEN], at: usize, value: u8) -> [u8; FRAME_LEN] {
    let mut out = *bytes;
    out[at] = value;
    let crc = crc32c::crc32c(&out[..CRC_AT]);
    out[CRC_AT..256].copy_from_slice(&crc.to_le_bytes());
    out
}

fn unknown(feature: Feature, value: u32) -> Result<Preamble, HeaderError> {
    Err(HeaderError::UnknownFeature { feature, value })
}

#[test]
fn a_preamble_survives_its_bytes_and_knows_its_key() {
    let (dek, preamble) = sample();
    let back = Preamble::parse(&preamble.encode()).unwrap();
    assert_eq!(back, preamble);
    assert_eq!(back.verify(&dek), Ok(()));
    assert_eq!(back.file_id(), FileId([1; 16]));
    assert_eq!(back.origin(), VolumeId([2; 16]));
    let other = Dek::generate().unwrap();
    assert_eq!(back.verify(&other), Err(HeaderError::WrongKey));
}

#[test]
fn a_field_that_was_changed_without_the_key_is_forged() {
    let (dek, preamble) = sample();
    let bytes = preamble.encode();
    // Minor version, header pages, a compat flag, the origin volume, the MAC itself.
    for at in [10, 15, 24, 80, 95, 192, 223] {
        let value = if at == 15 { 2 } else { bytes[at] ^ 1 };
        let forged = Preamble::parse(&forge(&bytes, at, value)).unwrap();
        assert_eq!(forged.verify(&dek), Err(HeaderError::Forged), "byte {at}");
    }
    for at in [32, 48] {
        let forged = Preamble::parse(&forge(&bytes, at, bytes[at] ^ 1)).unwrap();
        assert_eq!(forged.verify(&dek), Err(HeaderError::WrongKey), "byte {at}");
    }
}

#[test]
fn what_a_program_does_not_know_is_unsupported_and_not_damaged() {
    let bytes = sample().1.encode();
    assert_eq!(Preamble::parse(&forge(&bytes, 12, 9)), unknown(Feature::Suite, 9));
    assert_eq!(Preamble::parse(&forge(&bytes, 14, 16)), unknown(Feature::PageSize, 16));
    assert_eq!(Preamble::parse(&forge(&bytes, 16, 4)), unknown(Feature::Incompat, 4));
    assert_eq!(Preamble::parse(&forge(&bytes, 30, 2)), unknown(Feature::Layout, 0x0002_0030));
    let mut later = bytes;
    later[8] = 2;
    assert_eq!(Preamble::parse(&later), Err(HeaderError::UnsupportedVersion { major: 2 }));
}

#[test]
fn a_feature_for_writers_leaves_the_file_readable() {
    let preamble = Preamble::parse(&forge(&sample().1.encode(), 20, 3)).unwrap();
    let expected = unknown(Feature::ReadOnlyCompat, 2).map(|_| ());
    assert_eq!(preamble.check_writable(), expected);
    assert_eq!(sample().1.check_writable(), Ok(()));
    // That of the seal is known, and under the MAC.
    let (dek, plain) = sample();
    let flagged = Preamble::parse(&forge(&plain.encode(), 20, 1)).unwrap();
    assert_eq!((flagged.check_writable(), flagged.verify(&dek)), (Ok(()), Err(HeaderError::Forged)));
}

#[test]
fn a_reserved_byte_that_is_not_zero_is_damage_even_under_a_good_checksum() {
    let bytes = sample().1.encode();
    for at in (96..192).chain(224..252).chain(256..FRAME_LEN) {
        let result = Preamble::parse(&forge(&bytes, at, 1));
        assert_eq!(result, Err(HeaderError::Damaged("reserved bytes")), "byte {at}");
    }
    let pages = Preamble::parse(&forge(&bytes, 15, 17));
    assert_eq!(pages, Err(HeaderError::Damaged("number of header pages")));
}

#[test]
fn a_file_that_is_not_ours_is_told_from_a_truncated_and_a_zeroed_one() {
    let bytes = sample().1.encode();
    assert_eq!(Preamble::parse(b"hello"), Err(HeaderError::NotOurs));
    assert_eq!(Preamble::parse(&[b'x'; 600]), Err(HeaderError::NotOurs));
    let truncated = HeaderError::Truncated { have: 511, need: 512 };
    assert_eq!(Preamble::parse(&bytes[..511]), Err(truncated));
    let zeroed = HeaderError::Damaged("the first sector is zero");
    assert_eq!(Preamble::parse(&[0; 512]), Err(zeroed));
}

#[test]
fn a_file_is_no_marker_and_a_marker_no_file() {
    let (dek, preamble) = sample();
    let geometry = Geometry::new(2).unwrap();
    let options = MarkerOptions { geometry, ownership: Ownership::Virtual, strict: false, seal: true };
    let marker = VolumeMarker::create(&dek, VolumeId([7; 16]), options);
    assert_eq!(VolumeMarker::parse(&preamble.encode()), Err(HeaderError::NotOurs));
    assert_eq!(Preamble::parse(&marker.encode()), Err(HeaderError::NotOurs));
    let back = VolumeMarker::parse(&marker.encode()).unwrap();
    assert_eq!((back.options(), back.volume_id()), (options, VolumeId([7; 16])));
    assert_eq!(back.verify(&dek), Ok(()));
    assert_eq!(back.verify(&Dek::generate().unwrap()), Err(HeaderError::WrongKey));
}

#[test]
fn an_option_of_a_volume_cannot_be_changed_or_invented() {
    let dek = Dek::generate().unwrap();
    let geometry = Geometry::new(1).unwrap();
    let options = MarkerOptions { geometry, ownership: Ownership::Native, strict: true, seal: true };
    let bytes = VolumeMarker::create(&dek, VolumeId([7; 16]), options).encode();
    for (at, value) in [(28, 2), (29, 0), (29, 1), (29, 2), (15, 2)] {
        let forged = VolumeMarker::parse(&forge(&bytes, at, value)).unwrap();
        assert_eq!(forged.verify(&dek), Err(HeaderError::Forged), "byte {at}");
    }
    let unknown = |feature, value| Err(HeaderError::UnknownFeature { feature, value });
    assert_eq!(VolumeMarker::parse(&forge(&bytes, 16, 1)), unknown(Feature::Incompat, 1));
    assert_eq!(VolumeMarker::parse(&forge(&bytes, 28, 3)), unknown(Feature::Ownership, 3));
    assert_eq!(VolumeMarker::parse(&forge(&bytes, 29, 5)), unknown(Feature::Options, 4));
    let reserved = VolumeMarker::parse(&forge(&bytes, 30, 1));
    assert_eq!(reserved, Err(HeaderError::Damaged("reserved bytes")));
}
