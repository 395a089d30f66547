//! Every change that the format notices: an error, or exactly the bytes that were written. Never others, never a panic.

use envelope::{
    BlockCipher, BlockError, CipherError, Dek, GroupKey, HeaderError, HeaderRegion, PAGE, PAYLOAD, Seal,
    SealError,
};
use proptest::prelude::*;

use crate::sample::{ReadError, file, header, pattern, read, rewrap, sealed_file};

fn three_blocks() -> (crate::sample::Sample, Vec<u8>) {
    let plaintext = pattern(1, 2 * PAYLOAD + 100);
    let mut sample = file(1, &plaintext);
    rewrap(&mut sample.bytes, "v2");
    (sample, plaintext)
}

#[test]
fn any_flipped_bit_of_a_header_is_an_error_or_costs_one_slot() {
    let (sample, _) = three_blocks();
    let original = header(&sample.bytes);
    let mut bytes = sample.bytes[..PAGE].to_vec();
    for bit in 0..PAGE * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match bit / 8 {
            0..1024 => assert!(HeaderRegion::parse(&bytes).is_err(), "bit {bit}"),
            byte => {
                let hit = usize::from(byte >= 2560);
                let region = header(&bytes);
                assert_eq!(region.preamble(), original.preamble());
                assert!(region.slots()[hit].valid().is_none(), "bit {bit}");
                let (index, slot) = region.current().unwrap();
                assert_eq!(index, 1 - hit);
                assert_eq!(Some(slot), original.slots()[index].valid());
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn any_flipped_bit_of_a_block_is_an_error_of_that_block() {
    let (sample, _) = three_blocks();
    let cipher = BlockCipher::new(&sample.dek, header(&sample.bytes).preamble()).unwrap();
    let mut page = *crate::sample::page(&sample.bytes, 1, 2);
    for bit in 0..PAGE * 8 {
        page[bit / 8] ^= 1 << (bit % 8);
        let mut out = [0xEE; PAYLOAD];
        let error = cipher.open_block(2, &page, &mut out).unwrap_err();
        assert!(matches!(error, CipherError::Block { index: 2, .. }), "bit {bit}");
        assert_eq!(out, [0; PAYLOAD], "bit {bit}");
        page[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(cipher.open_block(2, &page, &mut [0; PAYLOAD]).is_ok());
}

#[test]
fn swapped_blocks_do_not_open() {
    let (mut sample, _) = three_blocks();
    let (first, second) = sample.bytes[PAGE..].split_at_mut(PAGE);
    first.swap_with_slice(&mut second[..PAGE]);
    let source = BlockError::Tag;
    let expected = ReadError::Block(CipherError::Block { index: 0, source });
    assert_eq!(read(&sample.bytes, 1, &sample.dek, false), Err(expected));
}

#[test]
fn a_block_of_another_file_does_not_open_even_under_the_same_key() {
    let (sample, plaintext) = three_blocks();
    let origin = header(&sample.bytes).preamble().origin();
    let twin = envelope::Preamble::create(
        &sample.dek,
        envelope::FileId([9; 16]),
        origin,
        crate::sample::geometry(1),
    );
    let cipher = BlockCipher::new(&sample.dek, &twin).unwrap();
    let stolen = crate::sample::page(&sample.bytes, 1, 0);
    assert!(cipher.open_block(0, stolen, &mut [0; PAYLOAD]).is_err());
    assert_eq!(read(&sample.bytes, 1, &sample.dek, false), Ok(plaintext));
}

#[test]
fn a_file_cut_anywhere_reads_as_an_error_or_as_whole_blocks_of_what_was_written() {
    let (sample, plaintext) = three_blocks();
    for len in 0..sample.bytes.len() {
        match read(&sample.bytes[..len], 1, &sample.dek, false) {
            Ok(read) => {
                let blocks = len.saturating_sub(PAGE) / PAGE;
                assert_eq!(read, plaintext[..blocks * PAYLOAD], "cut at {len}");
                assert!(len == 0 || len >= PAGE);
            }
            Err(error) => {
                let header = ReadError::Header(HeaderError::Truncated {
                    have: len,
                    need: if len < 512 { 512 } else { PAGE },
                });
                assert_eq!(error, header, "cut at {len}");
            }
        }
    }
}

#[test]
fn blocks_cut_off_or_zeroed_at_the_end_of_a_file_whose_seal_is_closed_are_an_error() {
    let plaintext = pattern(1, 2 * PAYLOAD + 100);
    let sealed = plaintext.len() as u64;
    let sample = sealed_file(&plaintext, Seal::Closed(sealed));
    assert_eq!(read(&sample.bytes, 1, &sample.dek, true), Ok(plaintext));
    for len in PAGE..sample.bytes.len() {
        let found = ((len / PAGE - 1) * PAYLOAD) as u64;
        let expected = Err(ReadError::Size { sealed, found });
        assert_eq!(read(&sample.bytes[..len], 1, &sample.dek, true), expected, "cut at {len}");
        let mut zeroed = sample.bytes.clone();
        zeroed[len / PAGE * PAGE..].fill(0);
        assert_eq!(read(&zeroed, 1, &sample.dek, true), expected, "zeroed from {len}");
    }
}

#[test]
fn any_flipped_bit_of_a_seal_is_an_error_and_so_is_a_lost_one_or_that_of_another_file() {
    let (sample, other) = (sealed_file(b"x", Seal::Closed(1)), sealed_file(b"y", Seal::Closed(1)));
    let seal_error = |bytes: &[u8]| match read(bytes, 1, &sample.dek, true) {
        Err(ReadError::Seal(error)) => error,
        other => panic!("{other:?}"),
    };
    let mut bytes = sample.bytes.clone();
    for bit in 512 * 8..1024 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        seal_error(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes[512..1024].copy_from_slice(&other.bytes[512..1024]);
    assert_eq!(seal_error(&bytes), SealError::Forged);
    bytes[512..1024].fill(0);
    assert_eq!(seal_error(&bytes), SealError::Missing);
    // Without the flag there is no such file: it is under the MAC.
    bytes[20] = 0;
    let crc = crc32c::crc32c(&bytes[..252]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&bytes, 1, &sample.dek, true), Err(ReadError::Header(HeaderError::Forged)));
}

#[test]
fn a_wrong_key_is_told_apart_before_any_block_is_opened() {
    let (sample, _) = three_blocks();
    let other = Dek::generate().unwrap();
    let expected = ReadError::Header(HeaderError::WrongKey);
    assert_eq!(read(&sample.bytes, 1, &other, false), Err(expected));
}

#[test]
fn a_slot_of_another_file_is_a_damaged_slot() {
    let (mut sample, _) = three_blocks();
    let other = file(1, b"x");
    sample.bytes[1024..2560].copy_from_slice(&other.bytes[1024..2560]);
    let region = header(&sample.bytes);
    assert!(region.slots()[0].valid().is_none());
    assert_eq!(region.current().unwrap().0, 1);
}

#[test]
fn a_wrapped_key_of_another_file_gives_no_key_or_one_that_the_commitment_refuses() {
    let (victim, other) = (file(1, b"victim"), file(1, b"other"));
    let group_key = GroupKey::generate().unwrap();
    let preamble = |sample: &crate::sample::Sample| header(&sample.bytes).preamble().clone();
    let stolen = crate::sample::grouped_key(&group_key, &preamble(&other), &other.dek);
    let envelope::Wrapping::Grouped(local) = &stolen.wrapping else {
        panic!("a grouped key has a local wrap");
    };
    let origin = preamble(&victim).origin();
    let result = envelope::unwrap_dek(&group_key, origin, preamble(&victim).file_id(), local);
    assert!(result.is_err());
    let unwrapped = envelope::unwrap_dek(&group_key, origin, preamble(&other).file_id(), local).unwrap();
    assert_eq!(preamble(&victim).verify(&unwrapped), Err(HeaderError::WrongKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_damage_to_a_file_gives_an_error_or_a_part_of_what_was_written(
        at in any::<prop::sample::Index>(),
        patch in prop::collection::vec(any::<u8>(), 1..600),
        pages in 1_u8..=2,
    ) {
        let plaintext = pattern(9, 3 * PAYLOAD + 1);
        let mut sample = file(pages, &plaintext);
        let start = at.index(sample.bytes.len());
        let end = (start + patch.len()).min(sample.bytes.len());
        sample.bytes[start..end].copy_from_slice(&patch[..end - start]);
        if let Ok(read) = read(&sample.bytes, pages, &sample.dek, true) {
            prop_assert!(plaintext.starts_with(&read));
        }
    }
}
