//! A full disk, and writes that the storage cuts short. Invariant: the errno that says so, for the call that did not fit and
//! for no other; the file as it was, or longer by what was acknowledged.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use faults::dice::pattern;
use faults::{Disk, Format, Kind, Place, Server, able};
use rustix::process::{Pid, Resource, Rlimit};

use crate::{errno, program};

const BLOCK: usize = 4048;

/// What is left free on a disk before a test begins.
const FREE: u64 = 5 << 20;

/// Runs `test` with a server on an ext4, and on an XFS, that has little space.
fn on_small(test: fn(Server)) {
    if !able(&["losetup", "mount", "mkfs.ext4", "mkfs.xfs"]) {
        return;
    }
    for format in [Format::Ext4, Format::Xfs] {
        println!("{format:?}");
        let place = Place::new().unwrap();
        let disk = Disk::new(&place, format).unwrap();
        let backing = disk.root().join("backing");
        std::fs::create_dir(&backing).unwrap();
        let filler = File::create(disk.root().join("filler")).unwrap();
        let stat = rustix::fs::statvfs(disk.root()).unwrap();
        let len = stat.f_bavail * stat.f_frsize - FREE;
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, len).unwrap();
        test(Server::start(program(), Kind::Memory, &backing, &place.dir("mount").unwrap()).unwrap());
    }
}

/// Appends until nothing fits; what was acknowledged.
fn fill(file: &mut File, seed: u64) -> Vec<u8> {
    let mut acknowledged = Vec::new();
    loop {
        let data = pattern(seed + acknowledged.len() as u64, 300_000);
        match file.write(&data) {
            Ok(written) => acknowledged.extend_from_slice(&data[..written]),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                return acknowledged;
            }
        }
    }
}

#[test]
fn on_a_full_disk_what_does_not_fit_is_enospc_and_everything_else_works() {
    on_small(nothing_fits);
}

fn nothing_fits(mut server: Server) {
    let mut still = pattern(1, 100_000);
    std::fs::write(server.path("still"), &still).unwrap();
    let mut pages = pattern(2, 30 * BLOCK);
    std::fs::write(server.path("pages"), &pages).unwrap();
    let sparse = File::create(server.path("sparse")).unwrap();
    sparse.set_len(10 * BLOCK as u64).unwrap();
    let new = File::create(server.path("new")).unwrap();
    let mut big = File::create(server.path("big")).unwrap();
    let acknowledged = fill(&mut big, 3);
    assert!(acknowledged.len() > 2 << 20, "{} bytes filled it", acknowledged.len());
    big.sync_all().unwrap();
    assert_eq!(big.metadata().unwrap().len(), acknowledged.len() as u64);
    // What would add to a file, in whatever way, changes nothing.
    assert_eq!(errno(big.write_all(&pattern(4, BLOCK))), libc::ENOSPC);
    let appending = OpenOptions::new().append(true).open(server.path("still")).unwrap();
    // The last block has room, and XFS has set some blocks aside; one that is half there is none of ours.
    let more = pattern(5, 20 * BLOCK);
    let fits = (&appending).write(&more).unwrap();
    assert_eq!((still.len() + fits) % BLOCK, 0);
    still.extend_from_slice(&more[..fits]);
    assert_eq!(errno((&appending).write(&more)), libc::ENOSPC);
    assert_eq!(errno(appending.set_len(10_000_000)), libc::ENOSPC);
    let grown = rustix::fs::fallocate(&appending, rustix::fs::FallocateFlags::empty(), 0, 8 << 20);
    assert_eq!(grown, Err(rustix::io::Errno::NOSPC));
    // What would be its last block is a hole.
    assert_eq!(errno(sparse.set_len(5 * BLOCK as u64 + 7)), libc::ENOSPC);
    assert_eq!(sparse.metadata().unwrap().len(), 10 * BLOCK as u64);
    assert_eq!(errno((&new).write(b"new")), libc::ENOSPC);
    assert_eq!(std::fs::read(server.path("new")).unwrap(), b"");
    appending.sync_all().unwrap();
    // What needs no space works: overwriting, rewrapping, names.
    server.say("rotate 2").unwrap();
    let file = OpenOptions::new().write(true).open(server.path("pages")).unwrap();
    for at in [0, 5000, 20 * BLOCK - 7] {
        let data = pattern(at as u64, 9000);
        file.write_all_at(&data, at as u64).unwrap();
        pages[at..at + 9000].copy_from_slice(&data);
    }
    file.sync_all().unwrap();
    std::fs::rename(server.path("new"), server.path("renamed")).unwrap();
    assert!(server.say("counters").unwrap().contains("upgrades_failed: 0"));
    drop((big, appending, file, sparse, new));
    for _ in 0..2 {
        assert!(std::fs::read(server.path("still")).unwrap() == still);
        assert!(std::fs::read(server.path("pages")).unwrap() == pages);
        assert!(std::fs::read(server.path("big")).unwrap() == acknowledged);
        assert!(std::fs::read(server.path("sparse")).unwrap() == vec![0; 10 * BLOCK]);
        server.restart().unwrap();
    }
}

#[test]
fn a_full_disk_takes_writes_again_once_there_is_space() {
    on_small(something_fits_again);
}

fn something_fits_again(mut server: Server) {
    let mut log = OpenOptions::new().create(true).append(true).open(server.path("log")).unwrap();
    let mut expected = pattern(1, 50_000);
    log.write_all(&expected).unwrap();
    let mut big = File::create(server.path("big")).unwrap();
    fill(&mut big, 2);
    drop(big);
    expected.extend(fill(&mut log, 3));
    let mut dirs = 0;
    let refusal = loop {
        match std::fs::create_dir(server.path(&format!("dir-{dirs}"))) {
            Ok(()) => dirs += 1,
            Err(error) => break error,
        }
        assert!(dirs < 10_000);
    };
    assert_eq!(refusal.raw_os_error(), Some(libc::ENOSPC));
    let listed = std::fs::read_dir(server.path("")).unwrap().map(Result::unwrap);
    assert_eq!(listed.filter(|entry| entry.file_name().to_string_lossy().starts_with("dir-")).count(), dirs);
    std::fs::remove_file(server.path("big")).unwrap();
    wait_for_space(&server);
    let more = pattern(4, 200_000);
    log.write_all(&more).unwrap();
    log.sync_all().unwrap();
    expected.extend(more);
    drop(log);
    std::fs::create_dir(server.path("dir-more")).unwrap();
    server.restart().unwrap();
    assert!(std::fs::read(server.path("log")).unwrap() == expected);
}

/// What a removed file had is free some time after its last close, which nobody waits for, and on XFS later still.
fn wait_for_space(server: &Server) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let stat = rustix::fs::statvfs(server.path("")).unwrap();
        if stat.f_bavail * stat.f_frsize > FREE / 2 {
            return;
        }
        assert!(Instant::now() < end, "the space does not come back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// From now on the server can write no file beyond `bytes`.
fn limit(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(server.pid().unwrap() as i32).unwrap();
    let limits = Rlimit { current: bytes, maximum: None };
    rustix::process::prlimit(Some(pid), Resource::Fsize, limits).unwrap();
}

fn served() -> Option<(Server, Place)> {
    if !able(&["losetup"]) {
        return None;
    }
    let place = Place::new().unwrap();
    let (backing, mount) = (place.dir("backing").unwrap(), place.dir("mount").unwrap());
    Some((Server::start(program(), Kind::Memory, &backing, &mount).unwrap(), place))
}

#[test]
fn a_write_that_the_storage_cuts_short_is_short_and_keeps_whole_blocks() {
    let Some((server, _place)) = served() else { return };
    let data = pattern(1, 100_000);
    let file = File::create_new(server.path("f")).unwrap();
    // In the middle of the eleventh block.
    limit(&server, Some(4096 * 11 + 1000));
    assert_eq!((&file).write(&data).unwrap(), 10 * BLOCK);
    assert_eq!(errno((&file).write(&data[10 * BLOCK..])), libc::EFBIG);
    assert_eq!(file.metadata().unwrap().len(), 10 * BLOCK as u64);
    assert_eq!(std::fs::metadata(server.backing("f")).unwrap().size(), 4096 * 11);
    assert_eq!(std::fs::read(server.path("f")).unwrap(), data[..10 * BLOCK]);
    assert_eq!(errno(file.set_len(90_000)), libc::EFBIG);
    assert_eq!(file.metadata().unwrap().len(), 10 * BLOCK as u64);
    limit(&server, None);
    (&file).write_all(&data[10 * BLOCK..]).unwrap();
    assert!(std::fs::read(server.path("f")).unwrap() == data);
}

#[test]
fn an_overwrite_that_the_storage_cuts_short_leaves_old_and_new_blocks() {
    let Some((mut server, _place)) = served() else { return };
    let (old, new) = (pattern(1, 20 * BLOCK), pattern(2, 10 * BLOCK));
    std::fs::write(server.path("f"), &old).unwrap();
    let file = OpenOptions::new().write(true).open(server.path("f")).unwrap();
    limit(&server, Some(4096 * 11));
    assert_eq!(file.write_at(&new, 5 * BLOCK as u64).unwrap(), 5 * BLOCK);
    assert_eq!(errno(file.write_at(&new[5 * BLOCK..], 10 * BLOCK as u64)), libc::EFBIG);
    drop(file);
    server.restart().unwrap();
    let mut expected = old;
    expected[5 * BLOCK..10 * BLOCK].copy_from_slice(&new[..5 * BLOCK]);
    assert!(std::fs::read(server.path("f")).unwrap() == expected);
}

#[test]
fn a_header_that_does_not_fit_is_none_and_the_file_stays_empty() {
    let Some((server, _place)) = served() else { return };
    let file = File::create_new(server.path("f")).unwrap();
    limit(&server, Some(1000));
    assert_eq!(errno(file.write_at(b"data", 0)), libc::EFBIG);
    assert_eq!(file.metadata().unwrap().len(), 0);
    assert_eq!(std::fs::metadata(server.backing("f")).unwrap().size(), 0);
    limit(&server, None);
    file.write_all_at(b"data", 0).unwrap();
    assert_eq!(std::fs::read(server.path("f")).unwrap(), b"data");
}
