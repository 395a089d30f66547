//! Rewraps under a load, in a server that is killed at random. Invariant: nobody who reads or writes notices; a rewrap writes
//! the slot that was not current, and nothing else of the file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use envelope::{HeaderRegion, PAGE};
use faults::dice::{pattern, rounds};
use faults::kill::Siege;
use faults::{Kind, Place, RootKey, Server, able};

use crate::{program, seed};

/// What a rewrap leaves as it is.
#[derive(Debug, PartialEq, Eq)]
struct Rest {
    inode: u64,
    modified: (i64, i64),
    preamble_and_blocks: Vec<u8>,
}

/// The files below `dir` of the raw volume that have a header.
fn protected(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != ".cofferdam" {
            found.extend(protected(&path));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.len() >= PAGE {
                found.push((path, bytes));
            }
        }
    }
    found
}

fn rest(dir: &Path) -> BTreeMap<PathBuf, Rest> {
    let of = |(path, bytes): (PathBuf, Vec<u8>)| {
        let stat = std::fs::metadata(&path).unwrap();
        let preamble_and_blocks = [&bytes[..1024], &bytes[PAGE..]].concat();
        (path, Rest { inode: stat.ino(), modified: (stat.mtime(), stat.mtime_nsec()), preamble_and_blocks })
    };
    protected(dir).into_iter().map(of).collect()
}

/// How often the files below `dir` were rewrapped; their slots were written in turn.
fn rewraps(dir: &Path) -> u64 {
    let of = |(path, bytes): (PathBuf, Vec<u8>)| {
        let region = HeaderRegion::parse(&bytes[..PAGE]).unwrap().unwrap();
        let (index, current) = region.current().unwrap();
        let generation = current.generation();
        assert_eq!(index as u64, (generation - 1) % 2, "{}: generation {generation}", path.display());
        let other = region.slots()[1 - index].valid().map(envelope::KeySlot::generation);
        assert_eq!(other.unwrap_or(0), generation - 1, "{}: the other slot", path.display());
        generation - 1
    };
    protected(dir).into_iter().map(of).sum()
}

/// Files that nobody changes.
fn add_still_files(server: &Server, count: usize) {
    for number in 0..count {
        std::fs::write(server.path(&format!("still/more-{number}")), pattern(number as u64, 1 + number * 37))
            .unwrap();
    }
}

fn check_still_files(server: &Server, count: usize) {
    for number in 0..count {
        let found = std::fs::read(server.path(&format!("still/more-{number}"))).unwrap();
        assert_eq!(found, pattern(number as u64, 1 + number * 37));
    }
}

fn assert_unnoticed(siege: &Siege, before: &BTreeMap<PathBuf, Rest>, files: usize) {
    check_still_files(&siege.server, files);
    let after = rest(&siege.server.backing("still"));
    assert_eq!(before.len(), after.len());
    for (path, rest) in before {
        assert!(after[path] == *rest, "{}: more than a slot was changed", path.display());
    }
}

#[test]
fn nobody_notices_rewraps_on_use_in_a_server_that_is_killed() {
    if !able(&["losetup"]) {
        return;
    }
    let goal = u64::from(rounds(8_000, 100_000));
    let mut siege = Siege::new(program(), Kind::Memory, seed("rewrap on use")).unwrap();
    add_still_files(&siege.server, 20);
    let before = rest(&siege.server.backing("still"));
    let mut done = 0;
    while done < goal {
        siege
            .round((100, 3000), |server, dice| {
                check_still_files(server, 20);
                server.say(&format!("rotate {}", dice.roll())).map(drop)
            })
            .unwrap();
        done = rewraps(&siege.server.backing(""));
        assert!(siege.outcome.findings.broken.is_empty(), "{:?}", siege.outcome.findings.broken);
        assert!(siege.outcome.rounds < 400, "{done} rewraps in 400 rounds");
    }
    println!("{done} rewraps, {} kills", siege.outcome.rounds);
    assert!(siege.outcome.rounds >= 5, "hardly a kill");
    assert_unnoticed(&siege, &before, 20);
}

#[test]
fn nobody_notices_sweeps_in_a_server_that_is_killed() {
    if !able(&["losetup"]) {
        return;
    }
    let place = Place::new().unwrap();
    let key = RootKey::new(&place.path("")).unwrap();
    let goal = u64::from(rounds(2_000, 20_000));
    let files = 300;
    let mut siege = Siege::new(program(), Kind::Volume(key.profile()), seed("sweep")).unwrap();
    add_still_files(&siege.server, files);
    let before = rest(&siege.server.backing("still"));
    let mut done = 0;
    while done < goal {
        key.rotate().unwrap();
        siege.round((200, 6000), |_, _| Ok(())).unwrap();
        done = rewraps(&siege.server.backing(""));
        assert!(siege.outcome.findings.broken.is_empty(), "{:?}", siege.outcome.findings.broken);
        assert!(siege.outcome.rounds < 200, "{done} rewraps in 200 rounds");
    }
    println!("{done} rewraps, {} kills", siege.outcome.rounds);
    assert!(siege.outcome.rounds >= 3, "hardly a kill");
    assert_unnoticed(&siege, &before, files);
}
