//! What the storage's administrator sees: the backing volume, without any key.
//!
//! Invariant: read-only; nothing here goes through the encrypted mount.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envelope::{HeaderRegion, PAGE};

use crate::namespace::Stage;

/// A file on the backing volume.
pub struct RawFile {
    /// Relative to the volume's root.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl RawFile {
    /// The key version of its current slot.
    pub fn key_version(&self) -> Result<String> {
        let region =
            HeaderRegion::parse(&self.bytes[..PAGE]).context("parse the header")?.context("find a header")?;
        let (_, slot) = region.current().context("find a valid slot")?;
        Ok(slot.keys().first().context("find a wrapped key")?.version.clone())
    }

    /// Its sealed blocks.
    pub fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[PAGE.min(self.bytes.len())..].chunks(PAGE)
    }
}

impl Stage {
    /// Files of the application on a backing volume; Cofferdam's own aside.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn raw_files(&self, volume: &str) -> Vec<RawFile> {
        let root = self.cluster.volume_path(volume).unwrap_or_else(|error| panic!("{error:#}"));
        let mut found = vec![];
        walk(&root, &mut |path| found.push(path.to_owned()));
        let own = |path: &PathBuf| {
            path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".cofferdam"))
        };
        let files = found.into_iter().filter(|path| !own(path));
        files.filter_map(|path| raw_file(&root, &path)).collect()
    }

    /// Key versions of all files that have data, with how many files each wraps.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn raw_versions(&self, volume: &str) -> BTreeMap<String, usize> {
        let mut versions = BTreeMap::new();
        for file in self.raw_files(volume) {
            let version = file.key_version().unwrap_or_else(|error| panic!("{}: {error:#}", file.name));
            *versions.entry(version).or_default() += 1;
        }
        versions
    }
}

fn raw_file(root: &Path, path: &Path) -> Option<RawFile> {
    let bytes = fs::read(path).ok()?;
    let name = path.strip_prefix(root).ok()?.display().to_string();
    (bytes.len() >= PAGE).then_some(RawFile { name, bytes })
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), visit),
            Ok(kind) if kind.is_file() => visit(&entry.path()),
            _ => {}
        }
    }
}

/// Bits of the filter: 2^32, one for each hash.
const FILTER_BITS: u32 = 32;

/// The first 16-byte run with at least 8 different bytes that `image` shares with a file below `corpus`, aside from runs
/// that are part of a file's name, because names are visible. Exact: the filter only picks candidates.
pub fn shared_run(corpus: &Path, image: &[u8]) -> Option<String> {
    let mut files = vec![];
    // ext4 remembers in its superblock where it was mounted last, and Key Protect's blobs all begin in one way.
    let mut names = vec![b"/cofferdam/raw/data".to_vec(), b"eyJjaXBoZXJ0ZXh0Ijoi".to_vec()];
    padded_names(corpus, &mut names);
    walk(corpus, &mut |path| {
        files.extend(fs::read(path));
    });
    let mut filter = vec![0_u64; 1 << (FILTER_BITS - 6)];
    for window in files.iter().flat_map(|file| file.windows(16)) {
        let hash = hash(window);
        filter[(hash >> 6) as usize] |= 1 << (hash & 63);
    }
    let candidates: HashSet<&[u8]> = image
        .windows(16)
        .filter(|window| {
            // Most of a volume is zeros.
            if window[0] == window[15] && window.iter().all(|byte| *byte == window[0]) {
                return false;
            }
            let hash = hash(window);
            filter[(hash >> 6) as usize] & (1 << (hash & 63)) != 0 && varied(window)
        })
        .collect();
    let is_name = |run: &[u8]| names.iter().any(|name| name.windows(16).any(|part| part == run));
    let mut windows = files.iter().flat_map(|file| file.windows(16));
    windows
        .find(|window| candidates.contains(window) && !is_name(window))
        .map(|run| run.escape_ascii().to_string())
}

/// Names of files and folders; in a directory block a name is followed by zeros.
fn padded_names(directory: &Path, names: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        names.push([entry.file_name().as_encoded_bytes(), &[0; 15]].concat());
        padded_names(&entry.path(), names);
    }
}

fn varied(window: &[u8]) -> bool {
    let mut seen = [0_u64; 4];
    for byte in window {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|part| part.count_ones()).sum::<u32>() >= 8
}

fn hash(window: &[u8]) -> u32 {
    let value = u128::from_le_bytes(window.try_into().expect("windows have 16 bytes"));
    let mixed = ((value as u64) ^ ((value >> 64) as u64).rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - FILTER_BITS)) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_run_that_the_image_shares_with_the_corpus_is_found_wherever_it_lies() {
        let corpus = tempfile::tempdir().unwrap();
        fs::write(corpus.path().join("a"), b"aaaaaaa The quick brown fox jumps over it").unwrap();
        let mut image = vec![0; 10_000];
        assert_eq!(shared_run(corpus.path(), &image), None);
        image[4321..4337].copy_from_slice(b" quick brown fox");
        assert_eq!(shared_run(corpus.path(), &image).unwrap(), " quick brown fox");
    }

    #[test]
    fn runs_of_few_different_bytes_and_names_of_files_do_not_count() {
        let corpus = tempfile::tempdir().unwrap();
        fs::write(
            corpus.path().join("abcdefghijklmnopqr"),
            b"abcdefghijklmnopqr\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        )
        .unwrap();
        assert_eq!(shared_run(corpus.path(), b"abcdefghijklmnopqr\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), None);
    }
}
