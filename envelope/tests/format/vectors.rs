//! The committed vectors in `tests/vectors/v1/`: files of format v1 that every later program must still read.
//!
//! They are never made anew: a program that no longer reads them has broken the format. `generate.rs` writes the ones
//! that do not exist yet.

use std::fs;
use std::path::PathBuf;

use envelope::{
    BlockCipher, Dek, GroupKey, GroupRecord, KmsContext, MarkerRegion, Ownership, PAYLOAD, Record, Region,
    Seal, WrappedKey, Wrapping, unwrap_dek,
};
use serde::{Deserialize, Serialize};

use crate::oracle;
use crate::sample::{ReadError, page, read};

#[derive(Serialize, Deserialize)]
pub struct Vectors {
    pub files: Vec<FileVector>,
    pub markers: Vec<MarkerVector>,
    pub groups: Vec<GroupVector>,
    pub rejected: Vec<Rejected>,
}

/// A protected file. All byte strings are hexadecimal.
#[derive(Serialize, Deserialize)]
pub struct FileVector {
    pub name: String,
    pub header_pages: u8,
    pub dek: String,
    pub group_key: Option<String>,
    pub file_id: String,
    pub origin: String,
    pub plaintext: String,
    /// Indexes of blocks that are holes.
    pub holes: Vec<u64>,
    pub slots: [Option<SlotVector>; 2],
    pub current: usize,
    /// What the file's seal says, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<SealVector>,
}

#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
pub enum SealVector {
    Open,
    /// At a size.
    Closed(u64),
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub struct SlotVector {
    pub generation: u64,
    pub verified: bool,
    pub sweep_epoch: Option<u64>,
    pub keys: Vec<KeyVector>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub struct KeyVector {
    pub provider: u16,
    pub context_scheme: String,
    pub root_key: String,
    pub version: String,
    pub blob: String,
    pub group: Option<String>,
    /// The context of the wrap at the KMS.
    pub context: String,
}

#[derive(Serialize, Deserialize)]
pub struct MarkerVector {
    pub name: String,
    pub dek: String,
    pub volume_id: String,
    pub header_pages: u8,
    pub ownership: String,
    pub strict: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub seal: bool,
    pub slots: [Option<SlotVector>; 2],
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize, Deserialize)]
pub struct GroupVector {
    pub name: String,
    pub group_key: String,
    pub group_id: String,
    pub origin: String,
    pub created: i64,
    pub count: u64,
    pub key: KeyVector,
}

/// A change to a file vector and the error that reading it gives.
#[derive(Serialize, Deserialize)]
pub struct Rejected {
    pub of: String,
    pub what: String,
    /// Length to cut the file to.
    pub cut: Option<usize>,
    /// Offset and new bytes.
    pub patches: Vec<(usize, String)>,
    pub dek: Option<String>,
    pub error: String,
}

/// The first vectors, and those that came with the seal.
const INDEXES: [&str; 2] = ["vectors.json", "seal.json"];

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/v1")
}

pub fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.bin"))).unwrap()
}

pub fn load() -> Vectors {
    let mut all = Vectors { files: vec![], markers: vec![], groups: vec![], rejected: vec![] };
    for index in INDEXES {
        let text = fs::read_to_string(folder().join(index)).unwrap();
        let vectors: Vectors = serde_json::from_str(&text).unwrap();
        all.files.extend(vectors.files);
        all.markers.extend(vectors.markers);
        all.groups.extend(vectors.groups);
        all.rejected.extend(vectors.rejected);
    }
    all
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text[at..=at].chars().next().unwrap().to_digit(16).unwrap() as u8;
    (0..text.len() / 2).map(|i| digit(2 * i) << 4 | digit(2 * i + 1)).collect()
}

pub fn dek(text: &str) -> Dek {
    Dek::from_slice(&unhex(text)).unwrap()
}

pub fn key_vector(key: &WrappedKey, context: KmsContext) -> KeyVector {
    KeyVector {
        provider: key.provider.code(),
        context_scheme: format!("{:?}", key.context),
        root_key: key.root_key.clone(),
        version: key.version.clone(),
        blob: hex(&key.blob),
        group: match &key.wrapping {
            Wrapping::Direct => None,
            Wrapping::Grouped(local) => Some(local.group().to_string()),
        },
        context: context.to_string(),
    }
}

pub fn slot_vectors<R: Record>(
    region: &Region<R>,
    context: impl Fn(&WrappedKey) -> KmsContext,
) -> [Option<SlotVector>; 2] {
    [0, 1].map(|index| {
        region.slots()[index].valid().map(|slot| SlotVector {
            generation: slot.generation(),
            verified: slot.verified(),
            sweep_epoch: slot.sweep_epoch(),
            keys: slot.keys().iter().map(|key| key_vector(key, context(key))).collect(),
        })
    })
}

/// A name for each error that a rejected vector can give.
pub fn error_name(error: &ReadError) -> String {
    use envelope::{BlockError, CipherError, HeaderError};
    match error {
        ReadError::Header(HeaderError::Truncated { .. }) => "truncated".into(),
        ReadError::Header(HeaderError::NotOurs) => "not ours".into(),
        ReadError::Header(HeaderError::UnsupportedVersion { major }) => {
            format!("unsupported version {major}")
        }
        ReadError::Header(HeaderError::UnknownFeature { feature, .. }) => format!("unsupported {feature}"),
        ReadError::Header(HeaderError::Damaged(_)) => "damaged header".into(),
        ReadError::Header(HeaderError::WrongKey) => "wrong key".into(),
        ReadError::Header(HeaderError::Forged) => "forged header".into(),
        ReadError::Header(HeaderError::NoUsableSlot { .. }) => "no usable key slot".into(),
        ReadError::Block(CipherError::Block { index, source: BlockError::Head }) => {
            format!("malformed block {index}")
        }
        ReadError::Block(CipherError::Block { index, source: BlockError::Tag }) => {
            format!("wrong tag of block {index}")
        }
        ReadError::Seal(error) => format!("seal: {error:?}"),
        ReadError::Size { sealed, found } => format!("{found} bytes of {sealed}"),
        other => format!("unexpected: {other:?}"),
    }
}

pub fn apply(rejected: &Rejected) -> Vec<u8> {
    let mut bytes = bytes_of(&rejected.of);
    for (at, patch) in &rejected.patches {
        let patch = unhex(patch);
        bytes[*at..at + patch.len()].copy_from_slice(&patch);
    }
    bytes.truncate(rejected.cut.unwrap_or(bytes.len()));
    bytes
}

#[test]
fn every_file_vector_reads_as_it_says_and_comes_out_of_the_oracle() {
    let vectors = load();
    assert!(vectors.files.len() >= 7);
    for vector in &vectors.files {
        println!("{}", vector.name);
        let bytes = bytes_of(&vector.name);
        let dek = dek(&vector.dek);
        let plaintext = unhex(&vector.plaintext);
        assert_eq!(read(&bytes, vector.header_pages, &dek, false), Ok(plaintext.clone()));
        check_file_header(vector, &bytes, &dek);
        oracle::check_frame(dek.expose(), &bytes, "file");
        let region = crate::sample::header(&bytes);
        let (preamble, geometry) = (region.preamble(), region.preamble().geometry());
        for (index, slot) in region.slots().iter().enumerate() {
            let start = geometry.slot_offset(index);
            if slot.valid().is_some() {
                oracle::check_slot(
                    &preamble.file_id().0,
                    index as u8,
                    &bytes[start..start + geometry.slot_len()],
                );
            }
        }
        for (index, chunk) in plaintext.chunks(PAYLOAD).enumerate() {
            let page = page(&bytes, vector.header_pages, index as u64);
            if vector.holes.contains(&(index as u64)) {
                assert!(envelope::is_zero_page(page));
                continue;
            }
            let sealed = oracle::seal(dek.expose(), &bytes, index as u64, &page[..24], chunk);
            assert_eq!(page[..], sealed[..]);
        }
    }
}

fn check_file_header(vector: &FileVector, bytes: &[u8], dek: &Dek) {
    let region = crate::sample::header(bytes);
    let preamble = region.preamble();
    assert_eq!(preamble.file_id().to_string(), vector.file_id);
    assert_eq!(preamble.origin().to_string(), vector.origin);
    let context = |key: &WrappedKey| key.file_context(preamble.origin(), preamble.file_id());
    assert_eq!(slot_vectors(&region, context), vector.slots);
    assert_eq!(region.current().unwrap().0, vector.current);
    let seal = crate::sample::seal_key(dek, preamble).map(|key| region.seal(&key).unwrap());
    let expected = vector.seal.map(|seal| match seal {
        SealVector::Open => Seal::Open,
        SealVector::Closed(size) => Seal::Closed(size),
    });
    assert_eq!(seal, expected);
    match expected {
        Some(Seal::Open) => oracle::check_seal(dek.expose(), bytes, None),
        Some(Seal::Closed(size)) => oracle::check_seal(dek.expose(), bytes, Some(size)),
        None => assert!(bytes[512..1024].iter().all(|byte| *byte == 0)),
    }
    let header = &bytes[..preamble.geometry().header_len() as usize];
    assert_eq!(region.encode().unwrap(), header);
    for key in region.current().unwrap().1.keys() {
        if let Wrapping::Grouped(local) = &key.wrapping {
            let group_key = unhex(vector.group_key.as_ref().unwrap());
            let group_key = GroupKey::from_slice(&group_key).unwrap();
            let unwrapped = unwrap_dek(&group_key, preamble.origin(), preamble.file_id(), local).unwrap();
            assert!(unwrapped.same_as(dek));
        }
    }
    assert!(BlockCipher::new(dek, preamble).is_ok());
}

#[test]
fn every_marker_vector_reads_as_it_says() {
    let vectors = load();
    assert!(vectors.markers.len() >= 3);
    for vector in &vectors.markers {
        let bytes = bytes_of(&vector.name);
        let region = MarkerRegion::parse(&bytes).unwrap().unwrap();
        let marker = region.marker();
        assert_eq!(marker.verify(&dek(&vector.dek)), Ok(()));
        assert_eq!(marker.volume_id().to_string(), vector.volume_id);
        let options = marker.options();
        assert_eq!(options.geometry.header_pages(), vector.header_pages);
        assert_eq!((options.strict, options.seal), (vector.strict, vector.seal));
        assert_eq!(format!("{:?}", options.ownership), vector.ownership);
        assert!(matches!(options.ownership, Ownership::Native | Ownership::Virtual));
        let context = KmsContext::volume_marker(marker.volume_id());
        assert_eq!(slot_vectors(&region, |_| context), vector.slots);
        assert_eq!(region.encode().unwrap(), bytes);
        oracle::check_frame(&unhex(&vector.dek), &bytes, "marker");
    }
}

#[test]
fn every_group_record_vector_reads_as_it_says() {
    let vectors = load();
    assert!(!vectors.groups.is_empty());
    for vector in &vectors.groups {
        let bytes = bytes_of(&vector.name);
        let record = GroupRecord::parse(&bytes).unwrap();
        let key = GroupKey::from_slice(&unhex(&vector.group_key)).unwrap();
        assert_eq!(record.verify(&key), Ok(()));
        assert_eq!(record.group.to_string(), vector.group_id);
        assert_eq!(record.origin.to_string(), vector.origin);
        assert_eq!((record.created, record.count), (vector.created, vector.count));
        assert_eq!(key_vector(&record.key, record.context()), vector.key);
        assert_eq!(record.encode().unwrap(), bytes);
    }
}

#[test]
fn every_rejected_vector_gives_the_error_that_it_says() {
    let vectors = load();
    assert!(vectors.rejected.len() >= 15);
    for rejected in &vectors.rejected {
        let file = vectors.files.iter().find(|file| file.name == rejected.of).unwrap();
        let key = dek(rejected.dek.as_ref().unwrap_or(&file.dek));
        let error = read(&apply(rejected), file.header_pages, &key, false).unwrap_err();
        assert_eq!(error_name(&error), rejected.error, "{}", rejected.what);
    }
}

#[test]
fn no_vector_on_disk_is_left_out() {
    let vectors = load();
    let named = vectors.files.iter().map(|file| &file.name);
    let named = named.chain(vectors.markers.iter().map(|marker| &marker.name));
    let mut named: Vec<String> = named
        .chain(vectors.groups.iter().map(|group| &group.name))
        .map(|name| format!("{name}.bin"))
        .collect();
    named.extend(INDEXES.map(str::to_owned));
    // Whole volumes, which `tests/faults` opens.
    named.push("volumes".into());
    named.sort();
    let entries = fs::read_dir(folder()).unwrap();
    let mut found: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, named);
}
