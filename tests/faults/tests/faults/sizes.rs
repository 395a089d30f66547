//! Sizes after power cuts, step by step. The size of a file rests on its last block, and a filesystem may have made a file
//! shorter on the disk before it has put there what was written earlier. Invariant: no file is found shorter than it ever was
//! since its last sync.

use std::fs::File;
use std::os::unix::fs::FileExt;

use faults::dice::pattern;
use faults::{Disk, Format, Kind, Place, Server, able};
use rustix::fs::FallocateFlags;

use crate::program;

const BLOCK: u64 = 4048;

/// Makes a file durable as `before` leaves it, changes it by `after`, cuts the power with the log flushed; what is found.
fn cut(format: Format, before: fn(&File), after: fn(&File)) -> Vec<u8> {
    let place = Place::new().unwrap();
    let disk = Disk::new(&place, format).unwrap();
    let backing = disk.root().join("backing");
    std::fs::create_dir(&backing).unwrap();
    let mut server = Server::start(program(), Kind::Memory, &backing, &place.dir("mount").unwrap()).unwrap();
    let file = File::create_new(server.path("f")).unwrap();
    before(&file);
    file.sync_all().unwrap();
    rustix::fs::syncfs(File::open(disk.root()).unwrap()).unwrap();
    after(&file);
    disk.cut(true).unwrap();
    drop(file);
    server.end();
    disk.mount_again().unwrap();
    server.again().unwrap();
    std::fs::read(server.path("f")).unwrap()
}

/// Runs `check` on what is found on ext4, and on XFS.
fn on_both(before: fn(&File), after: fn(&File), check: fn(&[u8])) {
    if !able(&["losetup", "mount", "mkfs.ext4", "mkfs.xfs"]) {
        return;
    }
    for format in [Format::Ext4, Format::Xfs] {
        let found = cut(format, before, after);
        println!("{format:?}: {} bytes", found.len());
        check(&found);
    }
}

fn begin(file: &File) {
    file.write_all_at(&pattern(1, 100), 0).unwrap();
}

#[test]
fn a_file_that_is_shortened_into_a_hole_is_no_shorter_than_asked() {
    let before = |file: &File| {
        begin(file);
        file.set_len(10 * BLOCK).unwrap();
    };
    let check = |found: &[u8]| {
        assert!(found.len() as u64 >= 5 * BLOCK + 100, "{} bytes", found.len());
        assert!(found[..100] == pattern(1, 100) && found[100..].iter().all(|byte| *byte == 0));
    };
    on_both(before, |file| file.set_len(5 * BLOCK + 100).unwrap(), check);
}

#[test]
fn a_file_that_is_shortened_to_a_block_that_was_just_written_is_no_shorter_than_asked() {
    let before = |file: &File| {
        begin(file);
        file.set_len(10 * BLOCK).unwrap();
    };
    let after = |file: &File| {
        file.write_all_at(&pattern(2, BLOCK as usize), 5 * BLOCK).unwrap();
        file.set_len(5 * BLOCK + 100).unwrap();
    };
    on_both(before, after, |found| assert!(found.len() as u64 >= 5 * BLOCK + 100, "{} bytes", found.len()));
}

#[test]
fn a_file_whose_last_synced_block_is_punched_after_an_append_keeps_its_size() {
    let before = |file: &File| {
        begin(file);
        file.write_all_at(&pattern(2, 500), 6 * BLOCK).unwrap();
    };
    let after = |file: &File| {
        file.write_all_at(&pattern(3, 3000), 9 * BLOCK).unwrap();
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, flags, BLOCK, 7 * BLOCK).unwrap();
    };
    on_both(before, after, |found| assert!(found.len() as u64 >= 6 * BLOCK + 500, "{} bytes", found.len()));
}
