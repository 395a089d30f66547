//! Keys: one for each file, fetched once, replaced slots, suspension.

use std::time::{Duration, Instant};

use envelope::{HeaderRegion, Preamble};

use super::*;
use crate::sweep::region_file;

fn region(volume: &Volume, name: &str) -> HeaderRegion {
    let file = std::fs::File::open(volume.backing(name)).unwrap();
    region_file::read::<Preamble>(&file).unwrap().unwrap()
}

fn version(volume: &Volume, name: &str) -> String {
    region(volume, name).current().unwrap().1.keys()[0].version.clone()
}

fn blocks(volume: &Volume, name: &str) -> Vec<u8> {
    std::fs::read(volume.backing(name)).unwrap()[4096..].to_vec()
}

#[test]
fn opening_a_file_of_a_retired_version_replaces_its_slot_and_nothing_else() {
    let mut volume = Volume::new();
    volume.write_file("f", &pattern(1, 10_000));
    let (before, old) = (std::fs::metadata(volume.backing("f")).unwrap(), blocks(&volume, "f"));
    let first_slot = region(&volume, "f").current().unwrap().0;
    volume.keys.rotate("2");
    volume.restart();
    assert_eq!(volume.read_file("f").unwrap(), pattern(1, 10_000));
    let region = region(&volume, "f");
    assert_eq!(version(&volume, "f"), "2");
    assert_eq!(region.current().unwrap().0, 1 - first_slot);
    assert!(region.slots()[first_slot].valid().is_some(), "the old slot is still there");
    assert_eq!(blocks(&volume, "f"), old);
    let after = std::fs::metadata(volume.backing("f")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(volume.fs.counters().upgraded.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_that_stays_open_over_a_rotation_is_rewrapped_on_its_next_read() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 10_000));
    volume.open(id, false);
    volume.read_open(id).unwrap();
    volume.keys.rotate("2");
    volume.read_open(id).unwrap();
    assert_eq!(version(&volume, "f"), "2");
    let opens = volume.keys.opens();
    volume.read_open(id).unwrap();
    assert_eq!(volume.keys.opens(), opens, "once is enough");
}

#[test]
fn a_thousand_reads_of_an_open_file_fetch_one_key_and_so_do_eight_threads_at_once() {
    let mut volume = Volume::new();
    volume.write_file("f", &pattern(1, 10_000));
    volume.restart();
    volume.keys.set_delay(Duration::from_millis(50));
    let id = volume.lookup("f").unwrap().id;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                volume.open(id, false);
                for _ in 0..100 {
                    volume.read_at(id, 0, 100).unwrap();
                }
            });
        }
    });
    assert_eq!(volume.keys.opens(), 1);
}

#[test]
fn a_key_that_is_slow_to_come_stops_no_other_file() {
    let mut volume = Volume::new();
    volume.write_file("slow", b"slow");
    let fast = volume.write_file("fast", b"fast");
    volume.restart();
    let _ = fast;
    let fast = volume.lookup("fast").unwrap().id;
    volume.open(fast, false);
    volume.keys.set_delay(Duration::from_secs(1));
    let slow = volume.lookup("slow").unwrap().id;
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| volume.open(slow, false));
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        assert_eq!(volume.read_open(fast).unwrap(), b"fast");
        assert_eq!(volume.lookup("slow").unwrap().attr.size, 4);
        assert!(start.elapsed() < Duration::from_millis(500));
        opening.join().unwrap();
    });
}

#[test]
fn while_suspended_nothing_is_read_written_opened_or_made_and_metadata_is_served() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 10_000));
    volume.open(id, true);
    volume.keys.set_suspended(true);
    assert!(volume.fs.suspend().quiet);
    let mut scratch = Scratch::new();
    assert_eq!(errno(volume.read_open(id)), libc::ENOKEY);
    assert_eq!(errno(volume.fs.write(id, 0, b"x", WriteHow::default(), &mut scratch)), libc::ENOKEY);
    assert_eq!(errno(volume.fs.open(id, OpenHow::default())), libc::ENOKEY);
    let change = SetAttr { size: Some(1), ..SetAttr::default() };
    assert_eq!(errno(volume.fs.setattr(id, &change)), libc::ENOKEY);
    let mode = NewMode { mode: 0o600, umask: 0 };
    let made = volume.fs.create(ROOT, c"new", mode, me(), true, OpenHow::default());
    assert_eq!(errno(made), libc::ENOKEY);
    assert_eq!(volume.lookup("f").unwrap().attr.size, 10_000);
    volume.fs.rename(ROOT, c"f", ROOT, c"g", RenameHow::Replace).unwrap();
    volume.keys.set_suspended(false);
    volume.fs.resume();
    assert_eq!(volume.read_open(id).unwrap(), pattern(1, 10_000));
}

#[test]
fn a_suspension_drops_the_key_of_every_open_file_and_resuming_fetches_it_anew() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    volume.open(id, true);
    let opens = volume.keys.opens();
    volume.fs.suspend();
    let open = volume.fs.inode(id).unwrap().opened().unwrap();
    assert!(open.key.present().is_none());
    volume.fs.resume();
    volume.read_open(id).unwrap();
    assert_eq!(volume.keys.opens(), opens + 1);
}

#[test]
fn a_key_that_was_on_its_way_when_keys_were_dropped_is_kept_by_nobody() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    volume.keys.set_delay(Duration::from_millis(200));
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| volume.fs.open(id, OpenHow::default()));
        std::thread::sleep(Duration::from_millis(50));
        volume.fs.suspend();
        opening.join().unwrap().unwrap();
    });
    let open = volume.fs.inode(id).unwrap().opened().unwrap();
    assert!(open.key.present().is_none());
    assert_eq!(errno(volume.read_open(id)), libc::ENOKEY);
}

#[test]
fn pages_changed_in_a_mapping_are_written_while_the_key_is_here_whatever_the_watch_says() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 10_000));
    volume.open(id, true);
    let mut scratch = Scratch::new();
    let mut write = |writeback, byte: &[u8]| {
        volume.fs.write(id, 0, byte, WriteHow { writeback, ..WriteHow::default() }, &mut scratch)
    };
    // Keys may not be used any more, and nobody has suspended the filesystem yet.
    volume.keys.set_suspended(true);
    assert_eq!(write(true, b"m").unwrap(), 1, "the kernel drops what is refused");
    assert_eq!(errno(write(false, b"w")), libc::ENOKEY);
    volume.fs.suspend();
    assert_eq!(errno(write(true, b"l")), libc::ENOKEY, "the key is gone");
    volume.keys.set_suspended(false);
    volume.fs.resume();
    assert_eq!(volume.read_at(id, 0, 1).unwrap(), b"m");
}

#[test]
fn an_open_file_is_served_on_by_its_old_key_while_the_new_one_cannot_be_had() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    volume.open(id, true);
    volume.keys.set_unreachable(true);
    volume.keys.rotate("2");
    let opens = volume.keys.opens();
    assert_eq!(volume.read_open(id).unwrap(), pattern(1, 100));
    volume.fs.write_all(id, 0, b"x").unwrap();
    assert_eq!(volume.read_at(id, 0, 1).unwrap(), b"x");
    assert_eq!(volume.keys.opens(), opens + 1, "not every read waits for a kms that does not answer");
    let open = volume.fs.inode(id).unwrap().opened().unwrap();
    assert!(open.key.present().is_some());
    // What may not be used is not used, whether it is here or not.
    volume.keys.set_suspended(true);
    assert_eq!(errno(volume.read_open(id)), libc::ENOKEY);
    volume.keys.set_suspended(false);
    volume.keys.set_unreachable(false);
    volume.fs.suspend();
    volume.fs.resume();
    volume.read_open(id).unwrap();
    assert_eq!(version(&volume, "f"), "2", "it is rewrapped as soon as the key is fetched again");
}

#[test]
fn a_refusal_to_a_file_whose_key_is_old_leaves_that_key_for_writeback_only() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    volume.open(id, true);
    volume.keys.rotate("2");
    std::fs::rename(volume.backing("f"), volume.backing("g")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(volume.backing("g")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xFF], 60).unwrap();
    assert_eq!(errno(volume.read_open(id)), libc::EIO, "the header is damaged");
    let how = WriteHow { writeback: true, ..WriteHow::default() };
    assert_eq!(volume.fs.write(id, 0, b"x", how, &mut Scratch::new()).unwrap(), 1);
    assert_eq!(errno(volume.read_open(id)), libc::EIO);
}

#[test]
fn a_rewrap_on_open_works_beside_the_descriptor_that_fsync_uses() {
    use std::os::fd::AsFd;
    // A failed sync is told once to each open file description: the rewrap must not be the one that hears of it.
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    volume.open(id, true);
    let shared = volume.fs.inode(id).unwrap().opened().unwrap().for_writing().unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 4096,
        l_pid: 0,
    };
    nix::fcntl::fcntl(shared.as_fd(), nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    volume.keys.rotate("2");
    volume.read_open(id).unwrap();
    // The lock is the shared description's own, so that only another one meets it.
    assert_eq!(version(&volume, "f"), "1");
    assert_eq!(volume.fs.counters().upgrades_failed.load(Ordering::Relaxed), 1);
}

#[test]
fn whoever_asks_for_the_moves_waits_for_headers_whose_keys_were_taken_before() {
    let volume = Volume::new();
    let entry = volume.create("f");
    volume.keys.set_delay(Duration::from_millis(200));
    std::thread::scope(|scope| {
        scope.spawn(|| volume.fs.write_all(entry.id, 0, b"x").unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(std::fs::metadata(volume.backing("f")).unwrap().len(), 0, "the key is on its way");
        volume.fs.moves();
        assert_eq!(version(&volume, "f"), "1", "a walk that begins now meets it");
    });
}

#[test]
fn while_a_slot_is_written_nobody_writes_the_file_or_sets_its_times() {
    use std::os::unix::fs::MetadataExt;
    for open in [false, true] {
        let volume = Volume::new();
        let id = volume.write_file("f", b"x");
        if open {
            volume.open(id, true);
        }
        let stat = std::fs::metadata(volume.backing("f")).unwrap();
        let (begin, began) = std::sync::mpsc::channel();
        let (volume, changed) = (&volume, &AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                began.recv().unwrap();
                if open {
                    volume.fs.write_all(id, 0, b"y").unwrap();
                } else {
                    let late = SetTime::To(Time { seconds: 4_000_000_000, nanoseconds: 0 });
                    volume.fs.setattr(id, &SetAttr { mtime: late, ..SetAttr::default() }).unwrap();
                }
                changed.store(true, Ordering::SeqCst);
            });
            volume.fs.undisturbed((stat.dev(), stat.ino()), &mut || {
                begin.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                assert!(!changed.load(Ordering::SeqCst), "open: {open}");
            });
        });
        assert!(changed.load(Ordering::SeqCst));
    }
}

#[test]
fn a_last_close_drops_the_key() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    volume.open(id, false);
    volume.open(id, false);
    volume.fs.release(id);
    let open = volume.fs.inode(id).unwrap().opened().unwrap();
    assert!(open.key.present().is_some());
    volume.fs.release(id);
    assert!(volume.fs.inode(id).unwrap().opened().is_none());
}

#[test]
fn a_header_of_a_strange_volume_or_a_changed_one_is_an_error_and_never_an_empty_file() {
    use std::os::unix::fs::FileExt;
    let volume = Volume::new();
    let stranger = Volume::new();
    let id = volume.write_file("f", &pattern(1, 100));
    stranger.write_file("f", &pattern(1, 100));
    std::fs::copy(stranger.backing("f"), volume.backing("strange")).unwrap();
    assert_eq!(errno(volume.read_file("strange")), libc::EKEYREJECTED);
    let file = std::fs::OpenOptions::new().write(true).open(volume.backing("f")).unwrap();
    file.write_all_at(&[0xFF], 60).unwrap();
    assert_eq!(errno(volume.fs.open(id, OpenHow::default())), libc::EIO);
    std::fs::write(volume.backing("plain"), "plaintext of somebody else, long enough".repeat(300)).unwrap();
    assert_eq!(errno(volume.read_file("plain")), libc::EIO);
}
