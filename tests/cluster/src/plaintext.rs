//! The search for plaintext on a whole backing volume.
//!
//! Invariant: exact. Every 16-byte run of the image counts, wherever it lies; only a run that lies inside a name of a
//! directory entry, at that place, does not, because names are visible in format v1.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::raw::walk;

/// Length of a run, in bytes.
const RUN: usize = 16;
/// Runs with fewer different bytes say nothing about a file.
const DIFFERENT: u32 = 8;
/// Bits of the filter: 2^32, one for each hash.
const FILTER_BITS: u32 = 32;
/// What a page is; an image is mostly pages of zeros.
const PAGE: usize = 4096;

/// What stands in the image by itself, and in these sources too: ext4 remembers in its superblock where it was mounted
/// last, and Key Protect's blobs all begin in one way.
const KNOWN: [&[u8]; 2] = [b"/cofferdam/raw/data", b"eyJjaXBoZXJ0ZXh0Ijoi"];

/// The first run that `image` shares with a file below `corpus`, and where in the image it begins.
pub fn shared_run(corpus: &Path, image: &[u8]) -> Option<(String, usize)> {
    let mut files = vec![];
    walk(corpus, &mut |path| files.extend(fs::read(path)));
    let filter = Filter::of(files.iter().flat_map(|file| file.windows(RUN)));
    let suspects: Vec<usize> = places(image)
        .filter(|&at| {
            let run = &image[at..at + RUN];
            filter.may_hold(run) && varied(run) && !is_known(image, at) && !is_name(image, at)
        })
        .collect();
    let wanted: HashSet<&[u8]> = suspects.iter().map(|&at| &image[at..at + RUN]).collect();
    let shared: HashSet<&[u8]> =
        files.iter().flat_map(|file| file.windows(RUN)).filter(|run| wanted.contains(run)).collect();
    let found = suspects.into_iter().find(|&at| shared.contains(&image[at..at + RUN]))?;
    Some((image[found..found + RUN].escape_ascii().to_string(), found))
}

/// Where runs begin, pages that hold nothing but zeros aside.
fn places(image: &[u8]) -> impl Iterator<Item = usize> {
    let last = image.len().saturating_sub(RUN - 1);
    (0..last).step_by(PAGE).flat_map(move |page| {
        let end = (page + PAGE).min(last);
        // The run that begins last in this page ends in the next one.
        let empty = image[page..end + RUN - 1].iter().all(|byte| *byte == 0);
        if empty { page..page } else { page..end }
    })
}

/// A set of hashes that says "no" for certain and "yes" for maybe.
struct Filter(Vec<u64>);

impl Filter {
    fn of<'a>(runs: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bits = vec![0_u64; 1 << (FILTER_BITS - 6)];
        for run in runs {
            let hash = hash(run);
            bits[(hash >> 6) as usize] |= 1 << (hash & 63);
        }
        Self(bits)
    }

    fn may_hold(&self, run: &[u8]) -> bool {
        let hash = hash(run);
        self.0[(hash >> 6) as usize] & (1 << (hash & 63)) != 0
    }
}

fn hash(run: &[u8]) -> u32 {
    let value = u128::from_le_bytes(run.try_into().expect("runs have 16 bytes"));
    let mixed = ((value as u64) ^ ((value >> 64) as u64).rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - FILTER_BITS)) as u32
}

fn varied(run: &[u8]) -> bool {
    let mut seen = [0_u64; 4];
    for byte in run {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|part| part.count_ones()).sum::<u32>() >= DIFFERENT
}

/// Whether all but a few bytes of the run at `at` belong to something known, at that place.
fn is_known(image: &[u8], at: usize) -> bool {
    const MOST: usize = 12;
    KNOWN.iter().any(|known| {
        let mut begins = at.saturating_sub(known.len() - MOST)..=at + RUN - MOST;
        begins.any(|begin| image.get(begin..).is_some_and(|rest| rest.starts_with(known)))
    })
}

/// Whether the run at `at` lies inside the name of an ext4 directory entry, the zeros after it included. The layout is
/// that of `struct ext4_dir_entry_2`: inode (4 bytes), length of the entry (2), of the name (1), type (1), name.
fn is_name(image: &[u8], at: usize) -> bool {
    const HEADER: usize = 8;
    let first = at.saturating_sub(HEADER + 255);
    (first..=at.saturating_sub(HEADER)).filter(|begin| begin % 4 == 0).any(|begin| {
        let (header, rest) = image[begin..].split_at(HEADER);
        let entry = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let length = usize::from(header[6]);
        let plausible = entry % 4 == 0
            && (HEADER + length..=PAGE).contains(&entry)
            && length > 0
            && (1..=7).contains(&header[7])
            && rest.len() >= length;
        plausible
            && rest[..length].iter().all(|byte| *byte != 0 && *byte != b'/')
            && rest.get(length..(at + RUN - begin - HEADER).max(length)).is_some_and(is_zero)
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn corpus(text: &[u8]) -> tempfile::TempDir {
        let corpus = tempfile::tempdir().unwrap();
        fs::write(corpus.path().join("a"), text).unwrap();
        corpus
    }

    fn entry(name: &[u8]) -> Vec<u8> {
        let mut entry = vec![12, 0, 0, 0, 0, 2, u8::try_from(name.len()).unwrap(), 1];
        entry.extend(name);
        entry.resize(512, 0);
        entry
    }

    #[test]
    fn a_run_that_the_image_shares_with_the_corpus_is_found_wherever_it_lies() {
        let corpus = corpus(b"aaaaaaa The quick brown fox jumps over it");
        let empty = vec![0; 10_000];
        assert_eq!(shared_run(corpus.path(), &empty), None);
        for at in [0, 4085, 4096, 8184, 10_000 - RUN] {
            let mut image = empty.clone();
            image[at..at + RUN].copy_from_slice(b" quick brown fox");
            assert_eq!(shared_run(corpus.path(), &image).unwrap(), (" quick brown fox".into(), at));
        }
    }

    #[test]
    fn runs_of_few_different_bytes_do_not_count() {
        assert_eq!(shared_run(corpus(&[1, 2].repeat(40)).path(), &[1, 2].repeat(40)), None);
    }

    #[test]
    fn a_name_counts_everywhere_but_in_a_directory_entry() {
        let name = b"abcdefghijklmnopqrst";
        let corpus = corpus(&[&name[..], &[0; 16]].concat());
        assert_eq!(shared_run(corpus.path(), &entry(name)), None);
        let mut elsewhere = entry(b"other");
        elsewhere[300..320].copy_from_slice(name);
        assert_eq!(shared_run(corpus.path(), &elsewhere).unwrap().1, 300);
    }

    #[test]
    fn the_beginning_of_a_wrapped_key_does_not_count_and_the_rest_does() {
        let blob = b"eyJjaXBoZXJ0ZXh0IjoiL0FCQ0RFRkdISUpLTE1OT1A=";
        assert_eq!(shared_run(corpus(&blob[..23]).path(), blob), None);
        assert!(shared_run(corpus(blob).path(), blob).is_some());
    }

    #[test]
    fn text_behind_a_name_counts() {
        let corpus = corpus(b"The quick brown fox");
        let mut image = entry(b"name");
        image[12..31].copy_from_slice(b"The quick brown fox");
        assert!(shared_run(corpus.path(), &image).is_some());
    }
}
