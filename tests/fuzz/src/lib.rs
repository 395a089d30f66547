//! What must hold for any bytes that are taken for a header, a block, a volume marker or a key slot.
//!
//! Invariant: each function returns for every input, or panics and names what does not hold. Bytes are tried as they are,
//! and once more with checksum and digests made to fit, because no search would find those.

use envelope::{
    BLOCK_HEAD, BlockCipher, BlockHead, Dek, FileDek, Geometry, HeaderRegion, MarkerRegion, Opened, PAGE,
    PAYLOAD, Record, Region, SlotState, is_zero_page, peek_len,
};
use sha2::{Digest, Sha256};

/// What is tried on an input.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 4] =
    [("header", header), ("block", block), ("marker", marker), ("slot", slot)];

/// A committed file whose DEK is known: a header, a block, a hole, a block.
const FILE: &[u8] = include_bytes!("../../vectors/v1/hole-grouped.bin");
/// Committed files under the same DEK.
const VECTORS: [&[u8]; 7] = [
    FILE,
    include_bytes!("../../vectors/v1/empty-direct.bin"),
    include_bytes!("../../vectors/v1/one-byte-direct.bin"),
    include_bytes!("../../vectors/v1/rewrapped-grouped.bin"),
    include_bytes!("../../vectors/v1/two-pages-eight-keys.bin"),
    include_bytes!("../../vectors/v1/seal-closed.bin"),
    include_bytes!("../../vectors/v1/seal-open.bin"),
];
/// Their DEK begins with 0, and each byte is one more.
const KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut at = 0;
    while at < 32 {
        key[at] = at as u8;
        at += 1;
    }
    key
};

/// A file's header region.
pub fn header(bytes: &[u8]) {
    region::<envelope::Preamble>(bytes);
    region::<envelope::Preamble>(&repaired(bytes));
    if let Ok(Some(region)) = HeaderRegion::parse(&repaired(bytes)) {
        let dek = Dek::from_slice(&KEY).expect("32 bytes");
        // A preamble is a committed one, or it is refused: nobody else knows the key.
        let known = VECTORS.iter().find(|file| bytes.get(..192) == file.get(..192));
        let dek = FileDek::verify(dek, region.preamble());
        assert!(known.is_some() || dek.is_err());
        // Nor can anybody else make a seal.
        let Some(key) = dek.ok().and_then(|dek| dek.seal_key()) else { return };
        let same = known.is_some_and(|file| bytes.get(512..1024) == file.get(512..1024));
        assert_eq!(region.seal(&key).is_ok(), same, "a seal that nobody made");
    }
}

/// A volume's marker.
pub fn marker(bytes: &[u8]) {
    region::<envelope::VolumeMarker>(bytes);
    region::<envelope::VolumeMarker>(&repaired(bytes));
    if let Ok(Some(region)) = MarkerRegion::parse(&repaired(bytes)) {
        let _ = region.sweep_epoch();
        let _ = region.marker().check_writable();
    }
}

/// The contents of a key slot of a good header, up to its digest.
pub fn slot(bytes: &[u8]) {
    let mut file = FILE[..PAGE].to_vec();
    let slot = &mut file[1024..2528];
    let len = bytes.len().min(slot.len());
    slot.fill(0);
    slot[..len].copy_from_slice(&bytes[..len]);
    region::<envelope::Preamble>(&repaired(&file));
}

/// A data block: its index in 8 bytes, and the page.
pub fn block(bytes: &[u8]) {
    let (index, bytes) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], bytes));
    let index = u64::from_le_bytes(*index);
    let mut page = [0; PAGE];
    let len = bytes.len().min(PAGE);
    page[..len].copy_from_slice(&bytes[..len]);
    let mut out = [0xEE; PAYLOAD];
    let opened = cipher().open_block(index, &page, &mut out);
    let head = peek_len(page.first_chunk::<BLOCK_HEAD>().expect("a page has a head"));
    match opened {
        Ok(Opened::Data(len)) => {
            let at = PAGE * (1 + index as usize);
            assert!(FILE.get(at..at + PAGE) == Some(&page[..]), "a page opened that nobody sealed");
            assert_eq!(head, Ok(BlockHead::Sealed(len as u16)));
            assert!(out[len..].iter().all(|byte| *byte == 0));
        }
        Ok(Opened::Hole) => {
            assert!(is_zero_page(&page));
            assert_eq!(out, [0; PAYLOAD]);
        }
        Err(_) => assert!(out == [0; PAYLOAD], "bytes of a block that did not open"),
    }
}

fn cipher() -> &'static BlockCipher {
    static CIPHER: std::sync::OnceLock<BlockCipher> = std::sync::OnceLock::new();
    CIPHER.get_or_init(|| {
        let region = HeaderRegion::parse(FILE).expect("a vector parses").expect("it has a header");
        let dek = Dek::from_slice(&KEY).expect("32 bytes");
        BlockCipher::new(&dek, region.preamble()).expect("the vector's key")
    })
}

/// What parses encodes to the same bytes, and the next slot can be made and parses too.
fn region<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(Some(region)) = Region::<R>::parse(bytes) else { return };
    let geometry = region.record().record_geometry();
    let len = geometry.header_len() as usize;
    let damaged = region.slots().iter().any(|slot| matches!(slot, SlotState::Damaged(_)));
    let encoded = region.encode().expect("what was parsed fits");
    assert_eq!(Region::<R>::needed_len(&bytes[..512]), Ok(Some(len)));
    if !damaged {
        assert!(encoded[..] == bytes[..len], "another encoding of the same header");
    }
    let Ok((index, current)) = region.current() else { return };
    let Ok(next) = current.successor(current.keys().to_vec(), false) else { return };
    let write = region.replacement(&next).expect("it has the size of the one before");
    assert_eq!(write.index, 1 - index);
    let mut replaced = bytes[..len].to_vec();
    replaced[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
    let replaced = Region::<R>::parse(&replaced).expect("a replaced slot parses").expect("it has a header");
    assert_eq!(replaced.current(), Ok((1 - index, &next)));
}

/// The same bytes with a checksum and digests that fit.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 512 {
        return bytes;
    }
    let crc = crc32c::crc32c(&bytes[..252]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
    let Ok(geometry) = Geometry::new(bytes[15]) else { return bytes };
    for number in [0, 1] {
        repair_slot(&mut bytes, geometry, number);
    }
    bytes
}

fn repair_slot(bytes: &mut [u8], geometry: Geometry, number: usize) {
    let id: [u8; 16] = *bytes[32..].first_chunk().expect("the caller has 512 bytes");
    let start = geometry.slot_offset(number);
    let Some(slot) = bytes.get_mut(start..start + geometry.slot_len()) else { return };
    let Some((contents, digest)) = slot.split_last_chunk_mut::<32>() else { return };
    if contents.iter().all(|byte| *byte == 0) {
        return;
    }
    let mut hash = Sha256::new();
    hash.update(b"cofferdam/v1/slot");
    hash.update(id);
    hash.update([number as u8]);
    hash.update(&*contents);
    *digest = hash.finalize().into();
}
