//! What a crash can leave, and a full disk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::*;
use crate::fs::write::Target;

const P: usize = envelope::PAYLOAD;

#[test]
fn a_torn_append_and_zeroed_pages_at_the_end_do_not_count_and_are_cut_off() {
    let mut volume = Volume::new();
    let contents = pattern(1, 3 * P);
    volume.write_file("f", &contents);
    let file = OpenOptions::new().write(true).open(volume.backing("f")).unwrap();
    let physical = file.metadata().unwrap().len();
    for tail in [1, 100, 4096, 5000, 3 * 4096 + 7, 4096 * 1000] {
        file.set_len(physical + tail).unwrap();
        volume.restart();
        assert_eq!(volume.lookup("f").unwrap().attr.size, contents.len() as u64, "{tail}");
        assert_eq!(volume.read_file("f").unwrap(), contents);
        let id = volume.lookup("f").unwrap().id;
        volume.open(id, true);
        assert_eq!(file.metadata().unwrap().len(), physical);
        volume.fs.release(id);
    }
    // Allocated zeros are found too.
    file.write_all_at(&[0; 3 * 4096], physical).unwrap();
    volume.restart();
    assert_eq!(volume.lookup("f").unwrap().attr.size, contents.len() as u64);
}

#[test]
fn a_long_hole_at_the_end_is_skipped_wherever_the_last_data_is() {
    for last in [0_u64, 1, 2, 5, 100, 1000] {
        let mut volume = Volume::new();
        let entry = volume.create("f");
        volume.fs.write_all(entry.id, last * P as u64, b"end").unwrap();
        volume.fs.release(entry.id);
        let file = OpenOptions::new().write(true).open(volume.backing("f")).unwrap();
        file.set_len(1 << 40).unwrap();
        volume.restart();
        assert_eq!(volume.lookup("f").unwrap().attr.size, last * P as u64 + 3);
    }
}

#[test]
fn a_header_that_was_never_written_is_an_empty_file_that_can_be_written() {
    let mut volume = Volume::new();
    volume.write_file("f", &pattern(1, 3 * P));
    let file = OpenOptions::new().write(true).open(volume.backing("f")).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    volume.restart();
    assert_eq!(volume.read_file("f").unwrap(), b"");
    assert_eq!(volume.fs.counters().headerless.load(Ordering::Relaxed), 1);
    let id = volume.lookup("f").unwrap().id;
    volume.open(id, true);
    volume.fs.write_all(id, 0, b"new").unwrap();
    volume.fs.release(id);
    volume.restart();
    assert_eq!(volume.read_file("f").unwrap(), b"new");
}

#[test]
fn every_state_between_the_writes_of_a_shortening_holds_what_stays() {
    // The states: the block that will be last, sealed if it was a hole; cut; sealed with its length.
    let mut volume = Volume::new();
    let contents = pattern(1, 3 * P);
    let id = volume.write_file("f", &contents);
    let before = std::fs::read(volume.backing("f")).unwrap();
    let size = (P + 100) as u64;
    volume.fs.setattr(id, &SetAttr { size: Some(size), ..SetAttr::default() }).unwrap();
    let after = std::fs::read(volume.backing("f")).unwrap();
    let cut = before[..after.len()].to_vec();
    for state in [before, cut, after] {
        std::fs::write(volume.backing("f"), state).unwrap();
        volume.restart();
        let found = volume.read_file("f").unwrap();
        assert!(found.len() as u64 >= size);
        assert_eq!(found[..size as usize], contents[..size as usize]);
    }
}

/// A file in memory with the bytes of `path`, in which what `seals` forbids fails.
fn sealed_copy(path: &Path, seals: SealFlags) -> File {
    let file = File::from(memfd_create("copy", MemfdFlags::ALLOW_SEALING).unwrap());
    file.write_all_at(&std::fs::read(path).unwrap(), 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

#[test]
fn shortening_to_within_a_block_that_was_never_filled_leaves_no_state_shorter_than_both_sizes() {
    let mut volume = Volume::new();
    let entry = volume.create("f");
    volume.fs.write_all(entry.id, 0, &pattern(1, 100)).unwrap();
    volume.fs.write_all(entry.id, 2 * P as u64, b"end").unwrap();
    let inode = volume.fs.inode(entry.id).unwrap();
    let key = inode.opened().unwrap().key.present().unwrap();
    // The storage stops just before the cut.
    let file = sealed_copy(&volume.backing("f"), SealFlags::SHRINK);
    let target = Target { file: &file, key: &key, inode: &inode, size: 2 * P as u64 + 3 };
    assert_eq!(errno(volume.fs.shrink(&target, 3000)), libc::EPERM);
    let mut state = vec![0; 4096 + 4096];
    file.read_exact_at(&mut state, 0).unwrap();
    std::fs::write(volume.backing("f"), state).unwrap();
    volume.restart();
    let found = volume.read_file("f").unwrap();
    assert!(found.len() >= 3000, "{} bytes", found.len());
    let mut model = pattern(1, 100);
    model.resize(3000, 0);
    assert_eq!(found[..3000], model);
}

#[test]
fn a_write_that_fails_within_the_file_cuts_nothing_off_that_others_added() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 2 * P));
    volume.open(id, true);
    let inode = volume.fs.inode(id).unwrap();
    let key = inode.opened().unwrap().key.present().unwrap();
    // While this write held the first block, another one made the file longer.
    volume.fs.write_all(id, 2 * P as u64, &pattern(2, 3 * P)).unwrap();
    let file = sealed_copy(&volume.backing("f"), SealFlags::WRITE);
    let before = file.metadata().unwrap().len();
    let target = Target { file: &file, key: &key, inode: &inode, size: 2 * P as u64 };
    let range = key.geometry.covering(0, P as u64).unwrap();
    let written = volume.fs.write_held(&target, range, 0, &pattern(3, P), &mut Scratch::new());
    assert_eq!(errno(written), libc::EPERM);
    assert_eq!(file.metadata().unwrap().len(), before);
    // One that adds to the file takes back what it added.
    let file = sealed_copy(&volume.backing("f"), SealFlags::WRITE);
    let target = Target { file: &file, key: &key, inode: &inode, size: P as u64 };
    let range = key.geometry.covering(P as u64, P as u64).unwrap();
    let written = volume.fs.write_held(&target, range, P as u64, &pattern(3, P), &mut Scratch::new());
    assert_eq!(errno(written), libc::EPERM);
    assert_eq!(file.metadata().unwrap().len(), 4096 + 4096);
}

/// CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 },
        )
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// Sets a byte of a file's preamble, with the checksum that fits.
fn set_in_preamble(path: &Path, offset: usize, byte: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] = byte;
    let crc = crc32c(&bytes[..252]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_no_file_of_this_volume_and_format_is_not_shortened_whoever_opens_it() {
    let mut volume = Volume::new();
    let other = Volume::make(Make { header_pages: 3, ..Make::default() });
    for name in ["short", "long", "sparse"] {
        std::fs::write(volume.backing(name), "plaintext of somebody else, ".repeat(300)).unwrap();
    }
    let open = |name| OpenOptions::new().write(true).open(volume.backing(name)).unwrap();
    open("short").set_len(5000).unwrap();
    open("sparse").set_len(8 * 4096).unwrap();
    other.write_file("geometry", &pattern(1, P));
    std::fs::copy(other.backing("geometry"), volume.backing("geometry")).unwrap();
    for name in ["later", "unwritable"] {
        volume.write_file(name, &pattern(1, 2 * P));
    }
    set_in_preamble(&volume.backing("later"), 8, 2);
    set_in_preamble(&volume.backing("unwritable"), 20, 2);
    for name in ["geometry", "later", "unwritable"] {
        let physical = open(name).metadata().unwrap().len();
        open(name).set_len(physical + 5000).unwrap();
    }
    let names = ["short", "long", "sparse", "geometry", "later", "unwritable"];
    let before = names.map(|name| std::fs::read(volume.backing(name)).unwrap());
    volume.restart();
    for (name, before) in names.iter().zip(before) {
        let id = volume.lookup(name).unwrap().id;
        if volume.fs.open(id, OpenHow { write: true, ..OpenHow::default() }).is_ok() {
            volume.fs.release(id);
        }
        assert!(std::fs::read(volume.backing(name)).unwrap() == before, "{name} was opened for writing");
        let errors = [
            errno(volume.fs.open(id, OpenHow { write: true, truncate: true, clear_privileges: false })),
            errno(volume.fs.setattr(id, &SetAttr { size: Some(0), ..SetAttr::default() })),
        ];
        let expected = match *name {
            "geometry" | "later" => libc::EOPNOTSUPP,
            "unwritable" => libc::EROFS,
            _ => libc::EIO,
        };
        assert_eq!(errors, [expected; 2], "{name}");
        assert!(std::fs::read(volume.backing(name)).unwrap() == before, "{name} was cut to nothing");
    }
}

#[test]
fn every_page_of_an_overwrite_alone_is_old_or_new() {
    let mut volume = Volume::new();
    let (old, new) = (pattern(1, 3 * P + 50), pattern(2, 2 * P));
    let id = volume.write_file("f", &old);
    let before = std::fs::read(volume.backing("f")).unwrap();
    volume.open(id, true);
    volume.fs.write_all(id, 100, &new).unwrap();
    volume.fs.release(id);
    let after = std::fs::read(volume.backing("f")).unwrap();
    for written in 0..(1 << 4_u32) {
        let mut state = before.clone();
        for block in 0..4 {
            if written & (1 << block) != 0 {
                let page = 4096 + block * 4096;
                state[page..page + 4096].copy_from_slice(&after[page..page + 4096]);
            }
        }
        std::fs::write(volume.backing("f"), state).unwrap();
        volume.restart();
        let found = volume.read_file("f").unwrap();
        for (at, byte) in found.iter().enumerate() {
            let is_new = written & (1 << (at / P)) != 0 && (100..100 + new.len()).contains(&at);
            assert_eq!(*byte, if is_new { new[at - 100] } else { old[at] }, "{written:b} {at}");
        }
    }
}

#[test]
fn a_full_disk_shortens_a_write_and_harms_nothing_that_was_there() {
    let Some((_mount, volume)) = mounted_volume("tmpfs", Some(c"size=4m")) else { return };
    let old = pattern(1, 10_000);
    let keep = volume.write_file("keep", &old);
    let entry = volume.create("fill");
    let data = pattern(2, MAX_IO);
    let mut scratch = Scratch::new();
    let (mut size, mut short) = (0, 0);
    loop {
        match volume.fs.write(entry.id, size, &data, WriteHow::default(), &mut scratch) {
            Ok(written) => {
                short += u32::from(written < data.len());
                size += written as u64;
            }
            Err(error) => {
                assert_eq!(error.errno(), libc::ENOSPC);
                break;
            }
        }
    }
    assert!(size > 1 << 20 && short <= 1, "{size} bytes, {short} short writes");
    let model: Vec<u8> = data.iter().copied().cycle().take(MAX_IO).collect();
    for part in 0..size / MAX_IO as u64 {
        let offset = part * MAX_IO as u64;
        assert!(volume.read_at(entry.id, offset, MAX_IO).unwrap() == model);
    }
    assert_eq!(volume.fs.getattr(entry.id).unwrap().size, size);
    // Overwriting needs no space; what cannot grow says so and stays as it was.
    volume.open(keep, true);
    volume.fs.write_all(keep, 5000, b"over").unwrap();
    let grow = volume.fs.write(keep, 10_000, &data, WriteHow::default(), &mut scratch);
    assert!(grow.is_err() || volume.fs.getattr(keep).unwrap().size > 10_000);
    let mut model = old;
    model[5000..5004].copy_from_slice(b"over");
    assert_eq!(volume.read_at(keep, 0, 10_000).unwrap(), model);
    assert_eq!(errno(volume.fs.fallocate(keep, 0, (0, 1 << 30), false, &mut scratch)), libc::ENOSPC);
    let size = volume.fs.getattr(keep).unwrap().size;
    volume.fs.release(keep);
    volume.fs.release(entry.id);
    volume.fs.unlink(ROOT, c"fill").unwrap();
    volume.fs.forget(entry.id, 1);
    assert_eq!(volume.lookup("keep").unwrap().attr.size, size);
    volume.write_file("again", &pattern(3, 100_000));
    assert_eq!(volume.read_file("again").unwrap(), pattern(3, 100_000));
}
