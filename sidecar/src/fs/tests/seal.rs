//! Seals: closed at the size at which a file was left, open before the size changes, and compared when the file is opened.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use envelope::{KeySlot, Preamble, SEAL_LEN, Seal};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::tampering::audited;
use super::*;
use crate::fs::write::Target;
use crate::sweep::region_file::{self, Durability, alone};

const P: usize = envelope::PAYLOAD;
const PAGE: usize = envelope::PAGE;

fn sealing() -> Volume {
    Volume::make(Make { seal: true, ..Make::default() })
}

/// What the sector of a file claims; `None` if the file has no header, or no flag.
fn seal_of(volume: &Volume, name: &str) -> Option<Seal> {
    let bytes = std::fs::read(volume.backing(name)).unwrap();
    let region = envelope::HeaderRegion::parse(&bytes).unwrap()?;
    region.claimed_seal().map(Result::unwrap)
}

fn damaged(volume: &Volume) -> u64 {
    volume.fs.counters().damaged.load(Ordering::Relaxed)
}

fn closed(size: usize) -> Seal {
    Seal::Closed(size as u64)
}

/// A volume with a file of this contents, closed and sealed, and its bytes on the storage.
fn sealed(contents: &[u8]) -> (Volume, Vec<u8>) {
    let volume = sealing();
    volume.write_file("f", contents);
    assert_eq!(volume.fs.seal_closed(), 1);
    let stored = std::fs::read(volume.backing("f")).unwrap();
    (volume, stored)
}

fn resize(volume: &Volume, name: &str, size: usize) -> Result<(), FsError> {
    let id = volume.lookup(name)?.id;
    volume.fs.setattr(id, &SetAttr { size: Some(size as u64), ..SetAttr::default() }).map(drop)
}

/// Replaces the file by `bytes`, and opens it as somebody who has not seen it before: what was read, or the errno.
fn read_as(volume: &mut Volume, bytes: &[u8]) -> Result<Vec<u8>, i32> {
    std::fs::write(volume.backing("f"), bytes).unwrap();
    volume.restart();
    volume.read_file("f").map_err(|error| error.errno())
}

/// As [`read_as`]; it must be an error that is counted and recorded.
fn noticed(volume: &mut Volume, what: &str, bytes: &[u8]) {
    let (read, records) = audited(|| read_as(volume, bytes));
    assert_eq!(read, Err(libc::EIO), "{what}");
    assert_eq!((damaged(volume), records.len()), (1, 1), "{what}: {records:?}");
    assert_eq!(records[0].operation, "damage", "{what}: {records:?}");
}

#[test]
fn a_file_is_sealed_at_its_size_once_it_is_closed_and_keeps_its_times() {
    let volume = sealing();
    let entry = volume.create("f");
    assert_eq!(seal_of(&volume, "f"), None, "no header yet");
    volume.fs.write_all(entry.id, 0, &pattern(1, P + 10)).unwrap();
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (0, Some(Seal::Open)));
    volume.fs.release(entry.id);
    let before = std::fs::metadata(volume.backing("f")).unwrap();
    let sealed = volume.fs.seal_closed();
    let after = std::fs::metadata(volume.backing("f")).unwrap();
    assert_eq!((sealed, seal_of(&volume, "f")), (1, Some(closed(P + 10))));
    assert_eq!(
        (before.mtime(), before.mtime_nsec(), before.atime_nsec()),
        (after.mtime(), after.mtime_nsec(), after.atime_nsec())
    );
    assert_eq!(volume.fs.seal_closed(), 0, "it is");
    assert_eq!(volume.fs.counters().seals_closed.load(Ordering::Relaxed), 1);
}

#[test]
fn each_change_of_size_opens_the_seal_and_the_next_close_seals_the_new_one() {
    type Change = (usize, fn(&Volume, u64));
    let changes: [Change; 7] = [
        (3 * P, |volume, id| volume.fs.write_all(id, 2 * P as u64, &[1; P]).unwrap()),
        (50, |volume, _| resize(volume, "f", 50).unwrap()),
        (0, |volume, _| resize(volume, "f", 0).unwrap()),
        (4 * P, |volume, _| resize(volume, "f", 4 * P).unwrap()),
        (P + 7, |volume, _| resize(volume, "f", P + 7).unwrap()),
        (9 * P, |volume, id| {
            volume.fs.fallocate(id, 0, (0, 9 * P as u64), false, &mut Scratch::new()).unwrap();
        }),
        (0, |volume, id| {
            volume.fs.open(id, OpenHow { write: true, truncate: true, clear_privileges: false }).unwrap();
            volume.fs.release(id);
        }),
    ];
    let (mut volume, _) = sealed(&pattern(1, 2 * P + 5));
    let mut size = 2 * P + 5;
    for again in [false, true] {
        for (new, change) in changes {
            if again {
                volume.restart();
            }
            let id = volume.lookup("f").unwrap().id;
            volume.open(id, true);
            assert_eq!(seal_of(&volume, "f"), Some(closed(size)), "opened for writing, not changed");
            change(&volume, id);
            assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (0, Some(Seal::Open)), "to {new}");
            volume.fs.release(id);
            assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (1, Some(closed(new))), "to {new}");
            size = new;
        }
        resize(&volume, "f", 2 * P + 5).unwrap();
        assert_eq!(volume.fs.seal_closed(), 1);
        size = 2 * P + 5;
        let opened = volume.fs.counters().seals_opened.load(Ordering::Relaxed);
        assert!(again || opened == 8, "{opened}");
    }
    assert_eq!(damaged(&volume), 0);
}

#[test]
fn a_seal_that_an_earlier_process_opened_is_made_durable_before_it_is_relied_on() {
    let mut volume = sealing();
    let entry = volume.create("f");
    volume.fs.write_all(entry.id, 0, &pattern(1, P)).unwrap();
    // Killed: what it wrote is in the kernel's hands, and nobody knows what of it is on the device.
    volume.restart();
    let opened = |volume: &Volume| volume.fs.counters().seals_opened.load(Ordering::Relaxed);
    resize(&volume, "f", 50).unwrap();
    assert_eq!(opened(&volume), 1);
    resize(&volume, "f", 60).unwrap();
    assert_eq!(opened(&volume), 1, "now it is known");
}

#[test]
fn who_looks_at_a_seal_waits_for_who_changes_the_size() {
    let (volume, stored) = sealed(&pattern(1, 2 * P));
    let id = volume.lookup("f").unwrap().id;
    volume.open(id, true);
    let inode = volume.fs.inode(id).unwrap();
    let open = inode.opened().unwrap();
    let key = open.key.present().unwrap();
    let held = open.ranges.hold_from(0);
    std::fs::write(volume.backing("f"), &stored[..2 * PAGE]).unwrap();
    let file = open.for_reading();
    std::thread::scope(|scope| {
        let look = || volume.fs.check_seal(&inode, &open, &file, key.seal.as_ref().unwrap());
        let look = scope.spawn(look);
        std::thread::sleep(Duration::from_millis(50));
        std::fs::write(volume.backing("f"), &stored).unwrap();
        drop(held);
        look.join().unwrap().unwrap();
    });
}

#[test]
fn what_changes_no_size_leaves_the_seal_closed() {
    let (volume, _) = sealed(&pattern(1, 4 * P + 5));
    let id = volume.lookup("f").unwrap().id;
    volume.open(id, true);
    let mut scratch = Scratch::new();
    volume.fs.write_all(id, 0, &pattern(2, 4 * P + 5)).unwrap();
    for (mode, range) in [(2 | 1, (0, 3 * P as u64)), (16, (10, 5000)), (1, (0, 9 * P as u64)), (0, (0, 50))]
    {
        volume.fs.fallocate(id, mode, range, false, &mut scratch).unwrap();
    }
    resize(&volume, "f", 4 * P + 5).unwrap();
    volume.fs.setattr(id, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    volume.fs.rename(ROOT, c"f", ROOT, c"g", RenameHow::Replace).unwrap();
    volume.fs.release(id);
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "g")), (0, Some(closed(4 * P + 5))));
    assert_eq!(volume.fs.counters().seals_opened.load(Ordering::Relaxed), 0);
}

#[test]
fn a_size_does_not_change_where_the_seal_cannot_be_opened_first() {
    let (volume, stored) = sealed(&pattern(1, 2 * P));
    let id = volume.lookup("f").unwrap().id;
    volume.open(id, true);
    let inode = volume.fs.inode(id).unwrap();
    let key = inode.opened().unwrap().key.present().unwrap();
    let copy = std::fs::File::from(memfd_create("copy", MemfdFlags::ALLOW_SEALING).unwrap());
    copy.write_all_at(&stored, 0).unwrap();
    fcntl_add_seals(&copy, SealFlags::WRITE).unwrap();
    let target = Target { file: &copy, key: &key, inode: &inode, size: 2 * P as u64 };
    assert_eq!(errno(volume.fs.before_resize(&target, 1)), libc::EPERM);
    // The next one tries again, and knows no better because of the first.
    volume.fs.write_all(id, 2 * P as u64, b"more").unwrap();
    assert_eq!(seal_of(&volume, "f"), Some(Seal::Open));
}

#[test]
fn a_cut_at_every_block_edge_and_blocks_put_or_zeroed_at_the_end_are_noticed() {
    let contents = pattern(1, 4 * P + 700);
    let (mut volume, stored) = sealed(&contents);
    for pages in 1..stored.len() / PAGE {
        for ragged in [0, 100] {
            noticed(&mut volume, "cut", &stored[..pages * PAGE + ragged]);
        }
        let mut zeroed = stored.clone();
        zeroed[pages * PAGE..].fill(0);
        noticed(&mut volume, "zeroed", &zeroed);
    }
    noticed(&mut volume, "longer", &[&stored[..], &stored[PAGE..2 * PAGE]].concat());
    assert_eq!(read_as(&mut volume, &stored), Ok(contents));
}

#[test]
fn a_file_that_was_cut_is_opened_by_nobody_and_stat_shows_what_is_there() {
    let (mut volume, stored) = sealed(&pattern(1, 2 * P + 700));
    for pages in [2, 1] {
        std::fs::write(volume.backing("f"), &stored[..pages * PAGE]).unwrap();
        volume.restart();
        let opens = volume.keys.opens();
        let entry = volume.lookup("f").unwrap();
        assert_eq!(entry.attr.size, ((pages - 1) * P) as u64, "what is there, without a key");
        assert_eq!(volume.keys.opens(), opens);
        for (write, truncate) in [(false, false), (true, false), (true, true)] {
            let how = OpenHow { write, truncate, clear_privileges: false };
            assert_eq!(errno(volume.fs.open(entry.id, how)), libc::EIO);
        }
        for size in [0, 5, 4 * P] {
            assert_eq!(errno(resize(&volume, "f", size)), libc::EIO, "{size}");
        }
        assert_eq!(damaged(&volume), 6);
        assert_eq!(std::fs::read(volume.backing("f")).unwrap(), stored[..pages * PAGE], "left as it is");
    }
    // It can be removed, and put back.
    volume.fs.unlink(ROOT, c"f").unwrap();
    assert_eq!(read_as(&mut volume, &stored), Ok(pattern(1, 2 * P + 700)));
}

#[test]
fn a_seal_that_is_missing_changed_or_of_another_file_is_noticed() {
    let (mut volume, stored) = sealed(&pattern(1, P));
    volume.write_file("other", &pattern(2, P));
    volume.fs.seal_closed();
    let other = std::fs::read(volume.backing("other")).unwrap();
    let mut zeroed = stored.clone();
    zeroed[512..1024].fill(0);
    noticed(&mut volume, "zeroed", &zeroed);
    let mut stolen = stored.clone();
    stolen[512..1024].copy_from_slice(&other[512..1024]);
    noticed(&mut volume, "of another file", &stolen);
    for at in [512, 516, 517, 520, 527, 528, 559, 560, 1023] {
        let mut changed = stored.clone();
        changed[at] ^= 3;
        noticed(&mut volume, &format!("byte {at}"), &changed);
    }
}

#[test]
fn an_empty_file_that_was_written_to_is_checked_too() {
    let (mut volume, _) = sealed(&pattern(1, 2 * P));
    resize(&volume, "f", 0).unwrap();
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (1, Some(closed(0))));
    let empty = std::fs::read(volume.backing("f")).unwrap();
    assert_eq!((empty.len(), read_as(&mut volume, &empty)), (PAGE, Ok(vec![])));
    assert_eq!(volume.keys.opens(), 2, "it took its key");
    volume.write_file("never", b"");
    assert_eq!((volume.read_file("never").unwrap(), volume.keys.opens()), (vec![], 2), "no header, no key");
}

#[test]
fn a_cut_to_nothing_an_older_seal_with_its_size_and_a_cut_while_it_is_open_are_not_noticed() {
    let contents = pattern(1, 3 * P);
    let (mut volume, older) = sealed(&contents[..2 * P]);
    let id = volume.lookup("f").unwrap().id;
    volume.open(id, true);
    volume.fs.write_all(id, 2 * P as u64, &contents[2 * P..]).unwrap();
    // As a crash leaves it.
    let open = std::fs::read(volume.backing("f")).unwrap();
    volume.fs.release(id);
    volume.fs.seal_closed();
    let stored = std::fs::read(volume.backing("f")).unwrap();
    assert_eq!(read_as(&mut volume, &[]), Ok(vec![]));
    let mut headless = stored.clone();
    headless[..PAGE].fill(0);
    assert_eq!(read_as(&mut volume, &headless), Ok(vec![]));
    assert_eq!(read_as(&mut volume, &open[..2 * PAGE]), Ok(contents[..P].to_vec()));
    let mut cut = stored[..3 * PAGE].to_vec();
    assert_eq!(read_as(&mut volume, &cut), Err(libc::EIO));
    cut[512..1024].copy_from_slice(&older[512..1024]);
    assert_eq!(read_as(&mut volume, &cut), Ok(contents[..2 * P].to_vec()));
    // But a whole file whose seal is open is sealed once somebody has opened it.
    assert_eq!(read_as(&mut volume, &open), Ok(contents));
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (1, Some(closed(3 * P))));
}

#[test]
fn a_file_s_own_flag_decides_on_whatever_volume_it_lies() {
    let (mut volume, stored) = sealed(&pattern(1, 2 * P));
    volume.options.seal = false;
    volume.restart();
    volume.write_file("plain", b"without");
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "plain")), (0, None));
    resize(&volume, "f", 3 * P).unwrap();
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (1, Some(closed(3 * P))));
    noticed(&mut volume, "cut", &stored[..2 * PAGE]);
    volume.options.seal = true;
    volume.restart();
    let id = volume.lookup("plain").unwrap().id;
    volume.open(id, true);
    volume.fs.write_all(id, 7, b" a seal").unwrap();
    volume.fs.release(id);
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "plain")), (0, None));
    assert_eq!(volume.read_file("plain").unwrap(), b"without a seal");
}

#[test]
fn what_was_changed_or_removed_since_it_was_closed_is_not_sealed_and_what_was_only_opened_is() {
    let volume = sealing();
    for name in ["changed", "removed", "orphan", "open", "written"] {
        volume.write_file(name, &pattern(1, P));
    }
    let id = |name| volume.lookup(name).unwrap().id;
    resize(&volume, "changed", 2 * P).unwrap();
    let again = id("changed");
    volume.open(again, true);
    // To the size with which it was closed, and in between another one.
    resize(&volume, "changed", 3 * P).unwrap();
    resize(&volume, "changed", 2 * P).unwrap();
    volume.fs.unlink(ROOT, c"removed").unwrap();
    let orphan = id("orphan");
    volume.open(orphan, true);
    volume.fs.unlink(ROOT, c"orphan").unwrap();
    volume.fs.release(orphan);
    volume.open(id("open"), false);
    volume.open(id("written"), true);
    volume.fs.write_all(id("written"), 5, b"over").unwrap();
    assert_eq!(volume.fs.seal_closed(), 2);
    let seals = ["changed", "open", "written"].map(|name| seal_of(&volume, name));
    assert_eq!(seals, [Some(Seal::Open), Some(closed(P)), Some(closed(P))]);
    volume.fs.release(again);
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "changed")), (1, Some(closed(2 * P))));
}

#[test]
fn nothing_is_sealed_while_suspended_without_its_key_on_a_reader_or_once_it_is_another_s() {
    let volume = sealing();
    let kept = volume.create("kept");
    volume.fs.write_all(kept.id, 0, b"1").unwrap();
    volume.write_file("f", b"12");
    volume.fs.suspend();
    // Its key is gone before it is closed.
    volume.fs.release(kept.id);
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (0, Some(Seal::Open)));
    volume.fs.resume();
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (1, Some(closed(2))));
    assert_eq!(seal_of(&volume, "kept"), Some(Seal::Open));
    let reader = open(&volume.dir, &Options { read_only: true, ..volume.options.clone() }, &volume.keys);
    let id = reader.lookup(ROOT, c"kept").unwrap().id;
    reader.open(id, OpenHow::default()).unwrap();
    reader.release(id);
    assert_eq!((reader.seal_closed(), seal_of(&volume, "kept")), (0, Some(Seal::Open)));
    // Whoever opens it next, with its key, seals it.
    volume.read_file("kept").unwrap();
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "kept")), (1, Some(closed(1))));
    resize(&volume, "f", 5).unwrap();
    volume.fs.fence();
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (0, Some(Seal::Open)));
}

#[test]
fn what_the_kernel_forgets_before_it_is_sealed_stays_known_until_then_and_no_longer() {
    let volume = sealing();
    for name in 0..20 {
        let id = volume.write_file(&name.to_string(), b"contents");
        volume.fs.forget(id, 1);
    }
    assert_eq!(volume.fs.inodes(), 21);
    assert_eq!(volume.fs.seal_closed(), 20);
    assert_eq!(volume.fs.inodes(), 1);
    let id = volume.write_file("again", b"1");
    volume.open(id, true);
    volume.fs.release(id);
    volume.fs.forget(id, 1);
    assert_eq!((volume.fs.seal_closed(), volume.fs.inodes()), (1, 1), "queued twice, known once");
}

#[test]
fn a_rewrap_without_the_key_leaves_the_seal_as_it_is() {
    let contents = pattern(1, 2 * P);
    let (mut volume, stored) = sealed(&contents);
    let file = std::fs::File::options().read(true).write(true).open(volume.backing("f")).unwrap();
    for _ in 0..3 {
        let successor = |region: &envelope::HeaderRegion| -> Option<KeySlot> {
            let (_, slot) = region.current().ok()?;
            slot.successor(slot.keys().to_vec(), false).ok()
        };
        let done = region_file::replace::<Preamble>(&file, Durability::ByCaller, &alone, successor);
        assert!(done.unwrap().is_some());
    }
    let after = std::fs::read(volume.backing("f")).unwrap();
    assert_eq!(after[512..512 + SEAL_LEN], stored[512..512 + SEAL_LEN]);
    assert_eq!(read_as(&mut volume, &after), Ok(contents));
    // One that is cut is rewrapped all the same, and stays refused.
    noticed(&mut volume, "cut", &after[..2 * PAGE]);
}

#[test]
fn a_storage_that_lost_a_write_is_not_trusted_with_a_seal() {
    let volume = sealing();
    let entry = volume.create("f");
    volume.fs.write_all(entry.id, 0, b"1").unwrap();
    let open = volume.fs.inode(entry.id).unwrap().opened().unwrap();
    let failure = std::io::Error::from_raw_os_error(libc::EIO);
    assert!(open.synced(1, 2, Err(failure)).is_err());
    drop(open);
    volume.fs.release(entry.id);
    assert_eq!((volume.fs.seal_closed(), seal_of(&volume, "f")), (0, Some(Seal::Open)));
}

/// Threads that write, cut, read, rotate and seal: whatever they meet, nobody is told of damage, and in the end every seal
/// says its file's size.
#[test]
fn no_order_of_writers_readers_and_sealing_gives_a_false_alarm() {
    let mut volume = sealing();
    let names = ["a", "b", "c"];
    for name in names {
        volume.write_file(name, b"begin");
    }
    let stop = AtomicBool::new(false);
    let (fs, keys, stopped) = (&volume.fs, &volume.keys, &stop);
    let begin = Instant::now();
    let met = || {
        let (closed, opened) = (&fs.counters().seals_closed, &fs.counters().seals_opened);
        closed.load(Ordering::Relaxed) > 50 && opened.load(Ordering::Relaxed) > 50
    };
    // Until they have met often enough, however slow the machine is.
    let goes_on = |step| step < 1500 || (!met() && begin.elapsed() < Duration::from_secs(120));
    let worked = std::thread::scope(|scope| {
        let worker = |seed: usize| {
            let (mut scratch, mut state) = (Scratch::new(), seed as u64);
            for _ in (0_u32..).take_while(|step| goes_on(*step)) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let draw = (state >> 33) as usize;
                let id = fs.lookup(ROOT, &cstr(names[draw % 3])).unwrap().id;
                fs.open(
                    id,
                    OpenHow { write: true, truncate: draw.is_multiple_of(29), clear_privileges: false },
                )
                .unwrap();
                let size = ((draw >> 8) % (4 * P)) as u64;
                match draw % 5 {
                    0 => drop(fs.setattr(id, &SetAttr { size: Some(size), ..SetAttr::default() }).unwrap()),
                    1 => drop(fs.write(id, size, &[1; 300], WriteHow::default(), &mut scratch).unwrap()),
                    2 => drop(fs.read(id, 0, 4 * P, &mut scratch).unwrap().len()),
                    3 => fs.fallocate(id, 3, (size, P as u64), false, &mut scratch).unwrap(),
                    _ => {}
                }
                fs.release(id);
                fs.forget(id, 1);
            }
        };
        let workers: Vec<_> = (0..3).map(|seed| scope.spawn(move || worker(seed + 1))).collect();
        let sealer = scope.spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::SeqCst) {
                fs.seal_closed();
                rounds += 1;
                keys.rotate(&rounds.to_string());
            }
        });
        let worked = workers.into_iter().all(|worker| worker.join().is_ok());
        stop.store(true, Ordering::SeqCst);
        sealer.join().unwrap();
        worked
    });
    assert!(worked);
    volume.fs.seal_closed();
    assert!(met(), "{:?}", volume.fs.counters());
    assert_eq!(damaged(&volume), 0);
    volume.restart();
    for name in names {
        let size = volume.read_file(name).unwrap().len();
        assert_eq!(seal_of(&volume, name), Some(closed(size)), "{name}");
    }
    assert_eq!(damaged(&volume), 0);
}
