//! Files built in memory as a sidecar would write them, and a reader as simple as the specification.

use envelope::{
    BlockCipher, BlockError, CipherError, ContextScheme, Dek, FileDek, FileId, Geometry, GroupId, GroupKey,
    HeaderError, HeaderRegion, KeySlot, Opened, PAGE, PAYLOAD, Preamble, Provider, Seal, SealError, SealKey,
    VolumeId, WrappedKey, Wrapping, peek_len, wrap_dek,
};

/// A protected file in memory.
pub struct Sample {
    pub dek: Dek,
    pub bytes: Vec<u8>,
}

/// Why the reader refused a file.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadError {
    Header(HeaderError),
    Block(CipherError),
    Head(BlockError),
    /// A strict volume refuses holes.
    Hole(u64),
    Seal(SealError),
    /// The file was left with another size.
    Size {
        sealed: u64,
        found: u64,
    },
}

pub fn geometry(pages: u8) -> Geometry {
    Geometry::new(pages).unwrap()
}

/// Plaintext with no run of equal bytes, different for each seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

pub fn direct_key(version: &str) -> WrappedKey {
    wrapped_key(version, Wrapping::Direct)
}

fn wrapped_key(version: &str, wrapping: Wrapping) -> WrappedKey {
    let blob = pattern(77, 184);
    let scheme = ContextScheme::Aad;
    let root = "crk-7d0d4f6e";
    WrappedKey::new(Provider::KeyProtect, scheme, root, version, blob, wrapping).unwrap()
}

pub fn grouped_key(group_key: &GroupKey, preamble: &Preamble, dek: &Dek) -> WrappedKey {
    let group = GroupId([0x6B; 16]);
    let local = wrap_dek(group_key, group, preamble.origin(), preamble.file_id(), dek).unwrap();
    wrapped_key("v1", Wrapping::Grouped(local))
}

/// A file of `plaintext` with one wrapped key and no hole.
pub fn file(pages: u8, plaintext: &[u8]) -> Sample {
    let dek = Dek::generate().unwrap();
    let file = FileId::generate().unwrap();
    let preamble = Preamble::create(&dek, file, VolumeId([0x56; 16]), geometry(pages));
    let slot = KeySlot::first(vec![direct_key("v1")], true).unwrap();
    let cipher = BlockCipher::new(&dek, &preamble).unwrap();
    let mut bytes = HeaderRegion::create(preamble, slot).encode().unwrap();
    bytes.extend(seal_all(&cipher, plaintext));
    Sample { dek, bytes }
}

/// A file of `plaintext` with this seal.
pub fn sealed_file(plaintext: &[u8], seal: Seal) -> Sample {
    let dek = Dek::generate().unwrap();
    let (file, origin) = (FileId::generate().unwrap(), VolumeId([0x56; 16]));
    let again = Dek::from_slice(dek.expose()).unwrap();
    let (preamble, key) = FileDek::create(dek, file, origin, geometry(1), true);
    let slot = KeySlot::first(vec![direct_key("v1")], true).unwrap();
    let region = HeaderRegion::create(preamble, slot).with_seal(&key.seal_key().unwrap(), seal);
    let mut bytes = region.encode().unwrap();
    bytes.extend(seal_all(&key.cipher().unwrap(), plaintext));
    Sample { dek: again, bytes }
}

/// The key of a file's seal.
pub fn seal_key(dek: &Dek, preamble: &Preamble) -> Option<SealKey> {
    let dek = Dek::from_slice(dek.expose()).unwrap();
    FileDek::verify(dek, preamble).unwrap().seal_key()
}

pub fn seal_all(cipher: &BlockCipher, plaintext: &[u8]) -> Vec<u8> {
    let mut pages = vec![0; plaintext.len().div_ceil(PAYLOAD) * PAGE];
    if !plaintext.is_empty() {
        cipher.seal_run(0, plaintext, &mut pages).unwrap();
    }
    pages
}

/// Rewraps in place: one write to the inactive slot.
pub fn rewrap(bytes: &mut [u8], version: &str) {
    let region = header(bytes);
    let (_, current) = region.current().unwrap();
    let keys = current
        .keys()
        .iter()
        .map(|key| key.rewrapped(pattern(version.len() as u64, 200), version).unwrap())
        .collect();
    let next = current.successor(keys, true).unwrap();
    let write = region.replacement(&next).unwrap();
    let start = write.offset as usize;
    bytes[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
}

pub fn header(bytes: &[u8]) -> HeaderRegion {
    HeaderRegion::parse(bytes).unwrap().unwrap()
}

pub fn page(bytes: &[u8], pages: u8, index: u64) -> &[u8; PAGE] {
    let start = geometry(pages).block_offset(index) as usize;
    bytes[start..].first_chunk().unwrap()
}

/// Reads a whole file as the specification says.
pub fn read(bytes: &[u8], pages: u8, dek: &Dek, strict: bool) -> Result<Vec<u8>, ReadError> {
    let geometry = geometry(pages);
    let header = &bytes[..bytes.len().min(geometry.header_len() as usize)];
    let Some(region) = HeaderRegion::parse(header).map_err(ReadError::Header)? else {
        return Ok(Vec::new());
    };
    region.current().map_err(ReadError::Header)?;
    let cipher = BlockCipher::new(dek, region.preamble()).map_err(ReadError::Header)?;
    let mut blocks = geometry.blocks(bytes.len() as u64);
    while blocks > 0 && envelope::is_zero_page(page(bytes, pages, blocks - 1)) {
        blocks -= 1;
    }
    let mut out = Vec::new();
    for index in 0..blocks {
        let mut payload = [0xEE; PAYLOAD];
        let page = page(bytes, pages, index);
        let opened = cipher.open_block(index, page, &mut payload);
        if opened.map_err(ReadError::Block)? == Opened::Hole && strict {
            return Err(ReadError::Hole(index));
        }
        out.extend(payload);
    }
    if blocks > 0 {
        let head = page(bytes, pages, blocks - 1).first_chunk().unwrap();
        let last = peek_len(head).map_err(ReadError::Head)?.claimed().unwrap();
        out.truncate(geometry.plain_size(blocks, last) as usize);
    }
    if let Some(key) = seal_key(dek, region.preamble())
        && let Seal::Closed(sealed) = region.seal(&key).map_err(ReadError::Seal)?
        && sealed != out.len() as u64
    {
        return Err(ReadError::Size { sealed, found: out.len() as u64 });
    }
    Ok(out)
}
