//! Every change that somebody without the key can make to a file, noticed by who reads it: an error, a count and an audit
//! record, and never other bytes. What no file format of this kind can notice is in `docs/threat-model.md`.

use std::cell::RefCell;
use std::os::unix::fs::FileExt;

use contract::audit::{Event, Subject};
use envelope::{FileId, GroupId, HeaderRegion, LocalWrap, Preamble, Wrapping};
use kms::observe::Auditor;
use sha2::{Digest, Sha256};

use super::*;

const P: usize = 4048;
const PAGE: usize = 4096;
const BLOCKS: usize = 5;

/// A volume with one file of five blocks that was rewrapped once, and its bytes on the storage.
pub struct Victim {
    volume: Volume,
    contents: Vec<u8>,
    stored: Vec<u8>,
}

impl Victim {
    fn new(strict: bool) -> Self {
        let mut volume = Volume::make(Make { strict, ..Make::default() });
        let contents = pattern(11, (BLOCKS - 1) * P + 700);
        volume.write_file("f", &contents);
        volume.keys.rotate("2");
        volume.restart();
        assert_eq!(volume.read_file("f").unwrap(), contents);
        let stored = std::fs::read(volume.backing("f")).unwrap();
        Self { volume, contents, stored }
    }

    fn damaged(&self) -> u64 {
        self.volume.fs.counters().damaged.load(Ordering::Relaxed)
    }

    fn file(&self) -> std::fs::File {
        std::fs::OpenOptions::new().read(true).write(true).open(self.volume.backing("f")).unwrap()
    }

    /// Puts `bytes` in the file's place.
    fn store(&self, bytes: &[u8]) {
        let file = self.file();
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    /// Reads `bytes` as the file, by somebody who has not seen it before: the errno, or what was read.
    fn read(&mut self, bytes: &[u8]) -> Result<Vec<u8>, i32> {
        self.store(bytes);
        self.volume.restart();
        self.volume.read_file("f").map_err(|error| error.errno())
    }

    /// As [`Self::read`]; the change must be noticed, counted and recorded.
    fn noticed(&mut self, what: &str, bytes: &[u8], errno: i32) {
        let (read, records) = audited(|| self.read(bytes));
        assert_eq!(read, Err(errno), "{what}");
        assert_eq!(self.damaged(), 1, "{what}: counted");
        assert_eq!(records.len(), 1, "{what}: {records:?}");
        assert_eq!(records[0].operation, "damage", "{what}: {records:?}");
    }
}

thread_local! {
    static RECORDED: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// The audit trail of the thread that reads, so that tests beside each other do not meet.
pub struct OfThisThread;

impl Auditor for OfThisThread {
    fn record(&self, event: Event) {
        RECORDED.with_borrow_mut(|recorded| recorded.push(event));
    }
}

/// What `work` leaves in the audit trail.
pub fn audited<T>(work: impl FnOnce() -> T) -> (T, Vec<Event>) {
    RECORDED.take();
    let result = work();
    (result, RECORDED.take())
}

/// Flips each bit of `range` alone, in place; `look` says what comes of it.
fn each_bit(file: &std::fs::File, stored: &[u8], range: std::ops::Range<usize>, mut look: impl FnMut(usize)) {
    for bit in range.start * 8..range.end * 8 {
        let byte = stored[bit / 8];
        file.write_all_at(&[byte ^ 1 << (bit % 8)], bit as u64 / 8).unwrap();
        look(bit);
        file.write_all_at(&[byte], bit as u64 / 8).unwrap();
    }
}

#[test]
fn any_flipped_bit_of_a_header_is_noticed_or_harms_nothing() {
    let victim = Victim::new(false);
    let id = victim.volume.lookup("f").unwrap().id;
    let (mut refused, mut served) = (0_u64, 0);
    each_bit(&victim.file(), &victim.stored, 0..PAGE, |bit| {
        let before = victim.damaged();
        match victim.volume.fs.open(id, OpenHow::default()) {
            Ok(()) => {
                // One slot is damaged: the other one serves.
                assert!(bit >= 1024 * 8, "bit {bit}");
                assert_eq!(victim.volume.read_at(id, 0, 100).unwrap(), victim.contents[..100], "bit {bit}");
                victim.volume.fs.release(id);
                served += 1;
            }
            Err(error) => {
                let version = (8 * 8..10 * 8).contains(&bit);
                let expected = if version { libc::EOPNOTSUPP } else { libc::EIO };
                assert_eq!(error.errno(), expected, "bit {bit}");
                assert_eq!(victim.damaged(), before + 1, "bit {bit}");
                refused += 1;
            }
        }
    });
    assert_eq!((refused, served), (1024 * 8, 3072 * 8));
}

#[test]
fn any_flipped_bit_of_the_first_a_middle_and_the_last_block_is_noticed() {
    let victim = Victim::new(false);
    let id = victim.volume.lookup("f").unwrap().id;
    victim.volume.open(id, false);
    for block in [0, BLOCKS / 2, BLOCKS - 1] {
        let before = victim.damaged();
        let page = PAGE * (1 + block)..PAGE * (2 + block);
        each_bit(&victim.file(), &victim.stored, page, |bit| {
            let read = victim.volume.read_at(id, (block * P) as u64, 1);
            assert_eq!(errno(read), libc::EIO, "block {block}, bit {bit}");
        });
        assert_eq!(victim.damaged() - before, PAGE as u64 * 8);
        let read = victim.volume.read_at(id, (block * P) as u64, 1).unwrap();
        assert_eq!(read, victim.contents[block * P..=block * P], "whole again");
    }
}

#[test]
fn any_flipped_bit_of_the_last_block_is_noticed_by_who_measures_the_file_too() {
    // The length in the last block's head is the file's size: a changed one shows another size, and no other bytes.
    let mut victim = Victim::new(false);
    let head = PAGE * BLOCKS;
    for bit in 0..32 * 8 {
        let mut bytes = victim.stored.clone();
        bytes[head + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(victim.read(&bytes), Err(libc::EIO), "bit {bit}");
        assert_eq!(victim.damaged(), 1, "bit {bit}");
    }
}

#[test]
fn blocks_exchanged_within_a_file_and_between_files_are_noticed() {
    let mut victim = Victim::new(false);
    victim.volume.write_file("other", &pattern(12, BLOCKS * P));
    let other = std::fs::read(victim.volume.backing("other")).unwrap();
    for first in 1..=BLOCKS {
        for second in 1..=BLOCKS {
            if first != second {
                let mut bytes = victim.stored.clone();
                bytes.copy_within(first * PAGE..(first + 1) * PAGE, second * PAGE);
                victim.noticed(&format!("block {first} in place of {second}"), &bytes, libc::EIO);
            }
            let mut bytes = victim.stored.clone();
            bytes[second * PAGE..(second + 1) * PAGE]
                .copy_from_slice(&other[first * PAGE..(first + 1) * PAGE]);
            victim.noticed(&format!("block {first} of another file as {second}"), &bytes, libc::EIO);
        }
    }
}

#[test]
fn a_file_that_is_cut_at_any_byte_is_an_error_or_whole_blocks_of_what_was_written() {
    let mut victim = Victim::new(false);
    let stored = victim.stored.clone();
    // Every byte of the header, every byte around the edges of blocks, and some of each block.
    let cuts = (0..=PAGE + 40).chain((PAGE..stored.len()).filter(|at| at % 61 == 0 || (at + 3) % PAGE < 6));
    for len in cuts {
        let read = victim.read(&stored[..len]);
        let blocks = len.saturating_sub(PAGE) / PAGE;
        match read {
            Ok(read) => {
                assert!(len == 0 || len >= PAGE, "cut at {len}");
                assert_eq!(read, victim.contents[..blocks * P], "cut at {len}");
            }
            Err(errno) => {
                assert!((1..PAGE).contains(&len), "cut at {len}");
                assert_eq!((errno, victim.damaged()), (libc::EIO, 1), "cut at {len}");
            }
        }
    }
}

#[test]
fn a_zeroed_block_is_noticed_on_a_strict_volume_and_is_zeros_on_another_one() {
    for block in 0..BLOCKS - 1 {
        let mut strict = Victim::new(true);
        let mut bytes = strict.stored.clone();
        bytes[PAGE * (1 + block)..PAGE * (2 + block)].fill(0);
        strict.noticed(&format!("block {block} zeroed"), &bytes, libc::EIO);
        let mut lenient = Victim::new(false);
        let mut bytes = lenient.stored.clone();
        bytes[PAGE * (1 + block)..PAGE * (2 + block)].fill(0);
        let mut expected = lenient.contents.clone();
        expected[P * block..P * (1 + block)].fill(0);
        assert_eq!(lenient.read(&bytes), Ok(expected));
    }
}

/// The header page `bytes` with other local wraps in both slots, under digests that fit.
fn with_wraps(bytes: &[u8], change: impl Fn(&LocalWrap) -> LocalWrap) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let region = HeaderRegion::parse(bytes).unwrap().unwrap();
    for (index, start) in [1024, 2560].into_iter().enumerate() {
        let Some(slot) = region.slots()[index].valid() else { continue };
        let Wrapping::Grouped(old) = &slot.keys()[0].wrapping else { panic!("not grouped") };
        let (old, new) = (old.encode(), change(old).encode());
        let at = out[start..start + 1504].windows(old.len()).position(|found| found == old).unwrap();
        out[start + at..start + at + new.len()].copy_from_slice(&new);
        let mut hash = Sha256::new();
        hash.update(b"cofferdam/v1/slot");
        hash.update(region.preamble().file_id().0);
        hash.update([index as u8]);
        hash.update(&out[start..start + 1504]);
        out[start + 1504..start + 1536].copy_from_slice(&hash.finalize());
    }
    let changed = HeaderRegion::parse(&out).unwrap().unwrap();
    assert!(changed.current().is_ok(), "the digests fit");
    out
}

fn wrap_of(bytes: &[u8]) -> LocalWrap {
    let region = HeaderRegion::parse(bytes).unwrap().unwrap();
    let key = region.current().unwrap().1.keys()[0].clone();
    let Wrapping::Grouped(wrap) = key.wrapping else { panic!("not grouped") };
    wrap
}

#[test]
fn a_substituted_wrapped_key_a_forged_group_and_a_forged_commitment_give_no_key() {
    let mut victim = Victim::new(false);
    victim.volume.write_file("other", b"other");
    let other = std::fs::read(victim.volume.backing("other")).unwrap();
    let stolen = wrap_of(&other);
    let bytes = with_wraps(&victim.stored, |_| stolen.clone());
    victim.noticed("the wrapped key of another file", &bytes, libc::EKEYREJECTED);
    let bytes = with_wraps(&victim.stored, |old| {
        let mut forged = old.encode();
        forged[..16].copy_from_slice(&GroupId([0xAB; 16]).0);
        LocalWrap::parse(&forged).unwrap()
    });
    victim.noticed("a forged group id", &bytes, libc::EKEYREJECTED);
    // The preamble of another key, and of another file, over these blocks and slots.
    let dek = envelope::Dek::generate().unwrap();
    let region = HeaderRegion::parse(&victim.stored).unwrap().unwrap();
    let of = region.preamble();
    for file in [of.file_id(), FileId([7; 16])] {
        let forged = Preamble::create(&dek, file, of.origin(), of.geometry());
        let mut bytes = victim.stored.clone();
        bytes[..512].copy_from_slice(&forged.encode());
        let same = file == of.file_id();
        // The slots are of the file that they name, so that those of another one are damaged.
        victim.noticed("a forged preamble", &bytes, if same { libc::EKEYREJECTED } else { libc::EIO });
    }
}

#[test]
fn an_audit_record_says_where_the_damage_is_and_no_more() {
    let mut victim = Victim::new(false);
    let mut bytes = victim.stored.clone();
    bytes[3 * PAGE + 100] ^= 1;
    let (_, records) = audited(|| victim.read(&bytes));
    let ino = victim.volume.lookup("f").unwrap().attr.ino;
    let subject = Subject {
        volume: Some(victim.volume.options.volume.to_string()),
        object: None,
        inode: Some(ino),
        block: Some(2),
    };
    assert_eq!(records, [Event::new("damage", "Block", subject)]);
    let (_, silent) = audited(|| victim.read(&victim.stored.clone()));
    assert_eq!(silent, []);
}
