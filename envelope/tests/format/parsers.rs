//! Arbitrary bytes never make a parser panic, and what parses encodes to the same bytes.

use envelope::{
    BlockCipher, GROUP_RECORD_LEN, GroupRecord, HeaderRegion, KeySlot, LocalWrap, MarkerRegion, PAGE,
    PAYLOAD, Preamble, SlotState, VolumeMarker, peek_len,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::sample::{direct_key, file, header};

/// A header of one page whose slot 0 holds `entries` under a good digest.
fn header_with_entries(entries: &[u8], count: u8, flags: u8, used: u16) -> Vec<u8> {
    let mut bytes = file(1, b"").bytes;
    let slot = &mut bytes[1024..2560];
    slot[20..1504].fill(0);
    slot[20..20 + entries.len()].copy_from_slice(entries);
    slot[12..14].copy_from_slice(&used.to_le_bytes());
    slot[14] = count;
    slot[15] = flags;
    let id: [u8; 16] = bytes[32..48].try_into().unwrap();
    let input = [b"cofferdam/v1/slot", &id[..], &[0], &bytes[1024..2528]].concat();
    bytes[2528..2560].copy_from_slice(&Sha256::digest(input));
    bytes
}

/// Fields that are nearly right: known types mostly, lengths mostly true.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let field = (prop_oneof![0_u16..12, any::<u16>()], prop::collection::vec(any::<u8>(), 0..90));
    prop::collection::vec(field, 0..9).prop_map(|fields| {
        let mut inner = Vec::new();
        for (kind, value) in fields {
            inner.extend(kind.to_le_bytes());
            inner.extend((value.len() as u16).to_le_bytes());
            inner.extend(value);
        }
        let mut outer = vec![1, 0];
        outer.extend((inner.len() as u16).to_le_bytes());
        outer.extend(inner);
        outer.truncate(1484);
        outer
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let _ = HeaderRegion::parse(&bytes);
        let _ = MarkerRegion::parse(&bytes);
        let _ = Preamble::parse(&bytes);
        let _ = VolumeMarker::parse(&bytes);
        let _ = GroupRecord::parse(&bytes);
        let _ = LocalWrap::parse(&bytes);
        if let Some(head) = bytes.first_chunk() {
            let _ = peek_len(head);
        }
    }

    #[test]
    fn arbitrary_bytes_behind_a_good_magic_never_make_a_parser_panic(
        mut bytes in prop::collection::vec(any::<u8>(), GROUP_RECORD_LEN),
        repair: bool,
    ) {
        for (kind, magic) in [b"\x89CFDM\r\n\x1a", b"\x89CFDV\r\n\x1a", b"\x89CFDG\r\n\x1a"].iter().enumerate() {
            bytes[..8].copy_from_slice(&magic[..]);
            bytes[8..10].copy_from_slice(&[1, 0]);
            if repair && kind < 2 {
                bytes[12..28].copy_from_slice(&[1, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                bytes[28..32].copy_from_slice(if kind == 0 { &[48, 0, 1, 0] } else { &[1, 0, 0, 0] });
                bytes[80..192].fill(0);
                bytes[224..1024].fill(0);
                let crc = crc32c::crc32c(&bytes[..252]);
                bytes[252..256].copy_from_slice(&crc.to_le_bytes());
            }
            let _ = MarkerRegion::parse(&bytes);
            let _ = GroupRecord::parse(&bytes);
            if let Ok(Some(region)) = HeaderRegion::parse(&bytes) {
                prop_assert!(region.current().is_err());
            }
        }
    }

    #[test]
    fn a_slot_of_arbitrary_entries_parses_to_the_same_bytes_or_is_damaged(
        entries in entries(),
        count in 0_u8..4,
        flags in 0_u8..3,
        lie in prop_oneof![4 => Just(0_i32), 1 => -20..1500_i32],
    ) {
        let used = (entries.len() as i32 + lie).clamp(0, 65_535) as u16;
        let bytes = header_with_entries(&entries, count, flags, used);
        let region = header(&bytes);
        match &region.slots()[0] {
            SlotState::Valid(_) => prop_assert_eq!(region.encode().unwrap(), bytes),
            SlotState::Damaged(_) => {}
            SlotState::Absent => prop_assert!(false, "a written slot is not absent"),
        }
    }

    #[test]
    fn an_arbitrary_page_never_opens(page in prop::collection::vec(any::<u8>(), PAGE), index: u64, len in 1_u16..=4048) {
        let sample = file(1, b"");
        let cipher = BlockCipher::new(&sample.dek, header(&sample.bytes).preamble()).unwrap();
        let mut page: [u8; PAGE] = page.try_into().unwrap();
        prop_assert!(cipher.open_block(index, &page, &mut [0; PAYLOAD]).is_err());
        page[24..26].copy_from_slice(&len.to_le_bytes());
        page[26..32].fill(0);
        prop_assert!(cipher.open_block(index, &page, &mut [0; PAYLOAD]).is_err());
    }

    #[test]
    fn text_and_blobs_of_any_size_survive_a_header_or_are_refused(
        root in "[ -~]{1,200}",
        version in "[ -~]{0,200}",
        blob in prop::collection::vec(any::<u8>(), 1..1600),
        copies in 1_usize..9,
        pages in 1_u8..=16,
    ) {
        let mut key = direct_key("v").rewrapped(blob, version).unwrap();
        key.root_key = root;
        let slot = KeySlot::first(vec![key; copies], true).unwrap();
        let sample = file(pages, b"");
        let region = HeaderRegion::create(header(&sample.bytes).preamble().clone(), slot);
        if let Ok(bytes) = region.encode() {
            prop_assert_eq!(header(&bytes), region);
        }
    }
}

#[test]
fn nearly_right_entries_do_reach_the_valid_case() {
    // Guards the generator above: the real encoding, put through the same frame, is valid.
    let bytes = file(1, b"").bytes;
    let used = u16::from_le_bytes([bytes[1036], bytes[1037]]);
    let entries = bytes[1044..1044 + usize::from(used)].to_vec();
    let again = header_with_entries(&entries, 1, 1, used);
    assert!(header(&again).slots()[0].valid().is_some());
}
