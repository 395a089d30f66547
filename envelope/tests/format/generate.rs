//! Writes the vectors once: `cargo test -p cofferdam-envelope --test format -- --ignored writes_the_vectors`. Later ones have
//! an index of their own: `… --ignored writes_the_seals`.
//!
//! It refuses to touch a vector that exists: what was published is read by later programs, never replaced.

use std::fs;

use envelope::{
    BlockCipher, ContextScheme, Dek, FileDek, FileId, GroupId, GroupKey, GroupRecord, HeaderRegion, KeySlot,
    KmsContext, MarkerOptions, MarkerRegion, Ownership, PAGE, PAYLOAD, Preamble, Provider, Seal, VolumeId,
    VolumeMarker, WrappedKey, Wrapping, wrap_dek,
};

use crate::sample::{geometry, pattern, rewrap};
use crate::vectors::{
    FileVector, GroupVector, MarkerVector, Rejected, SealVector, Vectors, apply, error_name, folder, hex,
    key_vector, slot_vectors,
};

const ORIGIN: VolumeId = VolumeId(*b"volume-of-sample");
const GROUP: GroupId = GroupId(*b"group-of-samples");
const ROOT: &str = "3d8bfa36-13f4-4b3e-9a5d-6f0c2a7d4e51";

fn counting(start: u8) -> [u8; 32] {
    std::array::from_fn(|i| start + i as u8)
}

fn write(name: &str, bytes: &[u8]) {
    let path = folder().join(format!("{name}.bin"));
    assert!(!path.exists(), "{name} exists and is never replaced");
    fs::write(path, bytes).unwrap();
}

fn wrapped(provider: Provider, scheme: ContextScheme, blob: usize, wrapping: Wrapping) -> WrappedKey {
    let version = "0a6f6d3c-5b0e-4d0f-8a4e-2f1f8f7c9b10";
    WrappedKey::new(provider, scheme, ROOT, version, pattern(blob as u64, blob), wrapping).unwrap()
}

fn key_protect(wrapping: Wrapping) -> WrappedKey {
    wrapped(Provider::KeyProtect, ContextScheme::Aad, 184, wrapping)
}

fn preamble(dek: &Dek, name: &[u8; 16], pages: u8) -> Preamble {
    Preamble::create(dek, FileId(*name), ORIGIN, geometry(pages))
}

fn grouped(dek: &Dek, preamble: &Preamble) -> WrappedKey {
    let key = GroupKey::from_slice(&counting(0x80)).unwrap();
    let local = wrap_dek(&key, GROUP, ORIGIN, preamble.file_id(), dek).unwrap();
    key_protect(Wrapping::Grouped(local))
}

/// Blocks of `plaintext`; those of zeros are holes.
fn blocks(dek: &Dek, preamble: &Preamble, plaintext: &[u8]) -> (Vec<u8>, Vec<u64>) {
    let cipher = BlockCipher::new(dek, preamble).unwrap();
    let (mut bytes, mut holes) = (Vec::new(), Vec::new());
    for (index, chunk) in plaintext.chunks(PAYLOAD).enumerate() {
        let mut page = [0; PAGE];
        if chunk.iter().all(|byte| *byte == 0) {
            holes.push(index as u64);
        } else {
            cipher.seal_block(index as u64, chunk, &mut page).unwrap();
        }
        bytes.extend(page);
    }
    (bytes, holes)
}

fn file(
    name: &str,
    dek: &Dek,
    preamble: Preamble,
    keys: Vec<WrappedKey>,
    plaintext: &[u8],
    rewraps: &[&str],
) -> FileVector {
    let (blocks, holes) = blocks(dek, &preamble, plaintext);
    let slot = KeySlot::first(keys, true).unwrap();
    // A file of one block was being written; others were left as they are.
    let key = crate::sample::seal_key(dek, &preamble);
    let size = Some(plaintext.len() as u64).filter(|_| blocks.len() > PAGE);
    let mut region = HeaderRegion::create(preamble, slot);
    if let Some(key) = &key {
        region = region.with_seal(key, size.map_or(Seal::Open, Seal::Closed));
    }
    let mut bytes = region.encode().unwrap();
    bytes.extend(blocks);
    for version in rewraps {
        rewrap(&mut bytes, version);
    }
    write(name, &bytes);
    let region = crate::sample::header(&bytes);
    let preamble = region.preamble();
    let context = |key: &WrappedKey| key.file_context(preamble.origin(), preamble.file_id());
    let grouped = region.current().unwrap().1.keys().iter().any(|key| key.wrapping != Wrapping::Direct);
    FileVector {
        name: name.into(),
        header_pages: preamble.geometry().header_pages(),
        dek: hex(dek.expose()),
        group_key: grouped.then(|| hex(&counting(0x80))),
        file_id: preamble.file_id().to_string(),
        origin: preamble.origin().to_string(),
        plaintext: hex(plaintext),
        holes,
        slots: slot_vectors(&region, context),
        current: region.current().unwrap().0,
        seal: key.map(|_| size.map_or(SealVector::Open, SealVector::Closed)),
    }
}

fn files() -> Vec<FileVector> {
    let dek = Dek::from_slice(&counting(0)).unwrap();
    let direct = || vec![key_protect(Wrapping::Direct)];
    let mut sparse = pattern(3, 2 * PAYLOAD + 100);
    sparse[PAYLOAD..2 * PAYLOAD].fill(0);
    let with_hole = preamble(&dek, b"file-with-a-hole", 1);
    let rewrapped = preamble(&dek, b"file-rewrapped-2", 1);
    let many: Vec<WrappedKey> = [1, 2, 3, 4, 5, 6, 900]
        .into_iter()
        .zip(
            [ContextScheme::Aad, ContextScheme::Derived, ContextScheme::EncryptionContext]
                .into_iter()
                .cycle(),
        )
        .map(|(code, scheme)| {
            wrapped(Provider::from_code(code), scheme, 100 + code as usize / 4, Wrapping::Direct)
        })
        .collect();
    let pages = preamble(&dek, b"file-of-two-page", 2);
    let mut many_keys = vec![grouped(&dek, &pages)];
    many_keys.extend(many);
    let (hole_key, rewrapped_key) = (grouped(&dek, &with_hole), grouped(&dek, &rewrapped));
    vec![
        file("empty-direct", &dek, preamble(&dek, b"file-empty-00000", 1), direct(), b"", &[]),
        file("one-byte-direct", &dek, preamble(&dek, b"file-of-one-byte", 1), direct(), b"C", &[]),
        file("hole-grouped", &dek, with_hole, vec![hole_key], &sparse, &[]),
        file(
            "rewrapped-grouped",
            &dek,
            rewrapped,
            vec![rewrapped_key],
            b"rewrapped",
            &["version-2", "version-3"],
        ),
        file("two-pages-eight-keys", &dek, pages, many_keys, &pattern(4, PAYLOAD + 1), &[]),
    ]
}

fn marker(
    name: &str,
    pages: u8,
    ownership: Ownership,
    (strict, seal): (bool, bool),
    epochs: u64,
) -> MarkerVector {
    let dek = Dek::from_slice(&counting(0x40)).unwrap();
    let options = MarkerOptions { geometry: geometry(pages), ownership, strict, seal };
    let marker = VolumeMarker::create(&dek, ORIGIN, options);
    let first = KeySlot::first(vec![key_protect(Wrapping::Direct)], true).unwrap();
    let mut region = MarkerRegion::create(marker, first);
    for epoch in 1..=epochs {
        let (_, current) = region.current().unwrap();
        let next = current.successor(current.keys().to_vec(), false).unwrap().with_sweep_epoch(epoch);
        let write = region.replacement(&next).unwrap();
        region = region.replaced(&write, next);
    }
    write(name, &region.encode().unwrap());
    MarkerVector {
        name: name.into(),
        dek: hex(dek.expose()),
        volume_id: ORIGIN.to_string(),
        header_pages: pages,
        ownership: format!("{ownership:?}"),
        strict,
        seal,
        slots: slot_vectors(&region, |_| KmsContext::volume_marker(ORIGIN)),
    }
}

fn group(name: &str) -> GroupVector {
    let key = GroupKey::from_slice(&counting(0x80)).unwrap();
    let mut record = GroupRecord::create(&key, GROUP, ORIGIN, 1_795_000_000, key_protect(Wrapping::Direct));
    record.count = 4096;
    write(name, &record.encode().unwrap());
    GroupVector {
        name: name.into(),
        group_key: hex(key.expose()),
        group_id: GROUP.to_string(),
        origin: ORIGIN.to_string(),
        created: record.created,
        count: record.count,
        key: key_vector(&record.key, record.context()),
    }
}

/// A change to the preamble under a good checksum, as somebody without the key can make it.
fn with_crc(at: usize, value: &[u8]) -> Vec<(usize, String)> {
    let mut bytes = crate::vectors::bytes_of("one-byte-direct");
    bytes[at..at + value.len()].copy_from_slice(value);
    let crc = crc32c::crc32c(&bytes[..252]).to_le_bytes();
    vec![(at, hex(value)), (252, hex(&crc))]
}

fn rejected(files: &[FileVector]) -> Vec<Rejected> {
    let case = |what: &str, cut, patches, dek| Rejected {
        of: "one-byte-direct".into(),
        what: what.into(),
        cut,
        patches,
        dek,
        error: String::new(),
    };
    let bytes = crate::vectors::bytes_of("one-byte-direct");
    let flip = |at: usize| vec![(at, hex(&[bytes[at] ^ 1]))];
    let mut cases = vec![
        case("the header is cut", Some(4000), vec![], None),
        case("another magic number", None, flip(3), None),
        case("a later major version", None, vec![(8, "0200".into())], None),
        case("an unknown incompat flag under a good checksum", None, with_crc(16, &[2]), None),
        case("an unknown cipher suite under a good checksum", None, with_crc(12, &[7]), None),
        case("a flipped bit of the file id", None, flip(32), None),
        case("a reserved byte behind the preamble", None, vec![(700, "01".into())], None),
        case("another key", None, vec![], Some(hex(&counting(1)))),
        case("another origin volume under a good checksum", None, with_crc(80, b"another"), None),
        case("a damaged key slot, and the other never written", None, flip(1100), None),
        case("a flipped bit of the ciphertext", None, flip(4096 + 40), None),
        case("a flipped bit of the tag", None, flip(8191), None),
        case("another length", None, vec![(4096 + 24, "0200".into())], None),
        case("a length of more than a payload", None, vec![(4096 + 24, "d10f".into())], None),
        case("a flag of a block", None, vec![(4096 + 26, "01".into())], None),
    ];
    say_errors(files, &mut cases);
    cases
}

fn say_errors(files: &[FileVector], cases: &mut [Rejected]) {
    for case in cases {
        let file = files.iter().find(|file| file.name == case.of).unwrap();
        let key = crate::vectors::dek(case.dek.as_ref().unwrap_or(&file.dek));
        let error = crate::sample::read(&apply(case), file.header_pages, &key, false).unwrap_err();
        case.error = error_name(&error);
    }
}

#[test]
#[ignore = "writes the vectors where there are none"]
fn writes_the_vectors_where_there_are_none() {
    let index = folder().join("vectors.json");
    assert!(!index.exists(), "the vectors exist and are never replaced");
    let files = files();
    let vectors = Vectors {
        markers: vec![
            marker("marker-native-strict", 1, Ownership::Native, (true, false), 0),
            marker("marker-virtual-swept", 2, Ownership::Virtual, (false, false), 3),
        ],
        groups: vec![group("group-record")],
        rejected: rejected(&files),
        files,
    };
    fs::write(index, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
}

fn sealed_files() -> Vec<FileVector> {
    let dek = || Dek::from_slice(&counting(0)).unwrap();
    let preamble = |name: &[u8; 16]| FileDek::create(dek(), FileId(*name), ORIGIN, geometry(1), true).0;
    let direct = || vec![key_protect(Wrapping::Direct)];
    let (closed, open) = (preamble(b"file-seal-closed"), preamble(b"file-seal-opened"));
    vec![
        file("seal-closed", &dek(), closed, direct(), &pattern(5, PAYLOAD + 200), &["version-2"]),
        file("seal-open", &dek(), open, direct(), b"being written", &[]),
    ]
}

fn rejected_seals(files: &[FileVector]) -> Vec<Rejected> {
    let bytes = crate::vectors::bytes_of("seal-closed");
    let open = crate::vectors::bytes_of("seal-open");
    let case = |what: &str, cut, patches: Vec<(usize, String)>| Rejected {
        of: "seal-closed".into(),
        what: what.into(),
        cut,
        patches,
        dek: None,
        error: String::new(),
    };
    let mut unflagged = bytes.clone();
    unflagged[20] = 0;
    let crc = crc32c::crc32c(&unflagged[..252]).to_le_bytes();
    let mut cases = vec![
        case("the last block is cut off", Some(2 * PAGE), vec![]),
        case("all blocks are cut off", Some(PAGE), vec![]),
        case("the last block is zeroed", None, vec![(2 * PAGE, "00".repeat(PAGE))]),
        case("the seal is zeroed", None, vec![(512, "00".repeat(512))]),
        case("another size in the seal", None, vec![(520, hex(&4048_u64.to_le_bytes()))]),
        case("another state of the seal", None, vec![(516, "01".into())]),
        case("the seal of another file", None, vec![(512, hex(&open[512..1024]))]),
        case("a reserved byte of the seal", None, vec![(600, "01".into())]),
        case("the flag of the seal removed", None, vec![(20, "00".into()), (252, hex(&crc))]),
    ];
    say_errors(files, &mut cases);
    cases
}

#[test]
#[ignore = "writes the vectors where there are none"]
fn writes_the_seals_where_there_are_none() {
    let index = folder().join("seal.json");
    assert!(!index.exists(), "the vectors exist and are never replaced");
    let files = sealed_files();
    let vectors = Vectors {
        markers: vec![marker("marker-native-seal", 1, Ownership::Native, (false, true), 0)],
        groups: vec![],
        rejected: rejected_seals(&files),
        files,
    };
    fs::write(index, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
}
