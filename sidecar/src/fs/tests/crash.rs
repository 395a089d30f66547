//! What a crash can leave, and a full disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;

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
    let Some((_mount, volume)) = tiny_volume() else { return };
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

/// A tmpfs that is unmounted when it is dropped.
struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A volume on a tmpfs of 4 MiB; `None`, loudly, where this process may not mount (a failure with `CI=true`).
fn tiny_volume() -> Option<(Tmpfs, Volume)> {
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    match rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, Some(c"size=4m")) {
        Ok(()) => {
            let tmpfs = Tmpfs(dir.path().to_owned());
            Some((tmpfs, Volume::make_in(Make::default(), dir)))
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "cannot mount a tmpfs: {error}");
            eprintln!("SKIPPED: cannot mount a tmpfs: {error}");
            None
        }
    }
}
