//! Promises of `docs/semantics.md` that no other test here makes good: what is refused, with which errno, and what goes on.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use crate::server::{shell, start};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn code<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn what_there_is_not_is_refused_with_its_errno() {
    let Some(server) = start(&[]) else { return };
    let (root, path) = (server.path(""), server.path("f"));
    let file = open(&path);
    file.write_all_at(&[7; 10_000], 0).unwrap();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    assert_eq!(rustix::fs::open(&root, flags, Mode::RUSR).unwrap_err(), Errno::OPNOTSUPP);
    for mode in [
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
        FallocateFlags::UNSHARE_RANGE | FallocateFlags::KEEP_SIZE,
    ] {
        assert_eq!(rustix::fs::fallocate(&file, mode, 0, 4096), Err(Errno::OPNOTSUPP), "{mode:?}");
    }
    let device = rustix::fs::mknodat(
        File::open(&root).unwrap(),
        "null",
        rustix::fs::FileType::CharacterDevice,
        Mode::RUSR,
        0x103,
    );
    assert_eq!(device, Err(Errno::PERM));
    let dir = File::open(&root).unwrap();
    let whiteout = rustix::fs::renameat_with(&dir, "f", &dir, "g", RenameFlags::WHITEOUT);
    assert_eq!(whiteout, Err(Errno::INVAL));
    let mut number: libc::c_int = 0;
    // SAFETY: the request writes at most one int, which outlives the call.
    let asked = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD + 0x1000, &raw mut number) };
    assert_eq!((asked, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOTTY)));
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    let mut found = vec![0; 10_000];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [7; 10_000], "nothing was changed");
}

#[test]
fn a_write_beyond_the_largest_size_is_refused() {
    let Some(server) = start(&[]) else { return };
    let file = open(&server.path("f"));
    file.write_all_at(b"x", 0).unwrap();
    let most = i64::MAX as u64;
    assert_eq!(code(file.write_at(b"x", most - 1)), Some(libc::EFBIG));
    assert_eq!(code(file.set_len(most)), Some(libc::EFBIG));
    assert_eq!(file.metadata().unwrap().len(), 1);
}

#[test]
fn locks_hold_among_the_processes_of_a_mount() {
    let Some(server) = start(&[]) else { return };
    let path = server.path("f");
    let file = open(&path);
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(rustix::fs::flock(open(&path), FlockOperation::NonBlockingLockExclusive), Err(Errno::AGAIN));
    shell(&server.path(""), "! flock --nonblock f true");
    rustix::fs::flock(&file, FlockOperation::Unlock).unwrap();
    shell(&server.path(""), "flock --nonblock f true");
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    let other = "import fcntl, sys\nf = open('f', 'r+')\ntry:\n    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept OSError:\n    sys.exit(7)\n";
    shell(&server.path(""), &format!("python3 -c \"{other}\" || test $? = 7"));
}

#[test]
fn the_mount_has_its_options() {
    let Some(server) = start(&[]) else { return };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = server.path("");
    let target = target.to_str().unwrap().trim_end_matches('/');
    let line = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(target)).unwrap();
    for option in ["nosuid", "nodev", "default_permissions", "allow_other"] {
        assert!(line.split([' ', ',']).any(|word| word == option), "{option}: {line}");
    }
}

#[test]
fn what_needs_a_key_is_refused_while_suspended() {
    let Some(mut server) = start(&[]) else { return };
    let file = open(&server.path("f"));
    file.write_all_at(&[7; 10_000], 0).unwrap();
    server.say("suspend");
    assert_eq!(code(File::open(server.path("f"))), Some(libc::ENOKEY));
    assert_eq!(code(File::create(server.path("new"))), Some(libc::ENOKEY));
    assert_eq!(code(file.read_at(&mut [0; 9], 0)), Some(libc::ENOKEY));
    assert_eq!(code(file.write_at(b"x", 0)), Some(libc::ENOKEY));
    assert_eq!(code(file.set_len(5)), Some(libc::ENOKEY));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for mode in [FallocateFlags::empty(), FallocateFlags::KEEP_SIZE, punch] {
        assert_eq!(rustix::fs::fallocate(&file, mode, 0, 20_000), Err(Errno::NOKEY), "{mode:?}");
    }
    server.say("resume");
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    file.write_all_at(b"x", 0).unwrap();
}

#[test]
fn what_needs_no_key_goes_on_while_suspended() {
    let Some(mut server) = start(&[]) else { return };
    let file = open(&server.path("f"));
    file.write_all_at(&[7; 10_000], 0).unwrap();
    symlink("target", server.path("l")).unwrap();
    server.say("suspend");
    let path = |name: &str| server.path(name);
    assert_eq!(std::fs::metadata(path("f")).unwrap().size(), 10_000);
    assert_eq!(std::fs::read_link(path("l")).unwrap(), Path::new("target"));
    assert!(rustix::fs::statfs(path("")).unwrap().f_blocks > 0);
    std::fs::create_dir(path("d")).unwrap();
    std::fs::hard_link(path("f"), path("d/g")).unwrap();
    std::fs::rename(path("f"), path("h")).unwrap();
    std::fs::remove_file(path("d/g")).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    rustix::fs::chmod(path("h"), Mode::from_raw_mode(0o640)).unwrap();
    std::os::unix::fs::chown(path("h"), Some(1001), Some(1002)).unwrap();
    let time = Timespec { tv_sec: 1_000, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path("h"), &times, AtFlags::empty()).unwrap();
    rustix::fs::setxattr(path("h"), c"user.a", b"b", XattrFlags::empty()).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    let stat = std::fs::metadata(path("h")).unwrap();
    assert_eq!((stat.mode() & 0o777, stat.uid(), stat.gid(), stat.mtime()), (0o640, 1001, 1002, 1_000));
}

#[test]
fn a_mount_whose_server_is_gone_says_so() {
    let Some(mut server) = start(&[]) else { return };
    let file = open(&server.path("f"));
    file.write_all_at(b"contents", 0).unwrap();
    server.kill();
    let mut gone = vec![Some(libc::ENOTCONN), Some(libc::ECONNABORTED)];
    // What the kernel was about to give to a ring.
    gone.extend(crate::io_uring::flag().map(|_| Some(libc::ECANCELED)));
    for said in [
        code(std::fs::metadata(server.path("other"))),
        code(File::open(server.path("f"))),
        code(file.write_at(b"x", 0)),
    ] {
        assert!(gone.contains(&said), "{said:?}");
    }
    server.again();
    assert_eq!(std::fs::read(server.path("f")).unwrap(), b"contents");
}

#[test]
fn a_rename_survives_a_killed_server() {
    let Some(mut server) = start(&[]) else { return };
    std::fs::write(server.path("f"), b"new").unwrap();
    std::fs::write(server.path("g"), b"old").unwrap();
    std::fs::rename(server.path("f"), server.path("g")).unwrap();
    server.kill();
    server.again();
    assert!(!server.path("f").exists());
    assert_eq!(std::fs::read(server.path("g")).unwrap(), b"new");
}

#[test]
fn another_filesystem_inside_the_raw_volume_is_not_entered() {
    let Some(server) = start(&[]) else { return };
    std::fs::create_dir(server.path("d")).unwrap();
    let inner = server.backing("e");
    std::fs::create_dir(&inner).unwrap();
    shell("/".as_ref(), &format!("mount -t tmpfs none {0}; echo x > {0}/f", inner.display()));
    let found = std::fs::metadata(server.path("e"));
    shell("/".as_ref(), &format!("umount {}", inner.display()));
    assert_eq!(code(found), Some(libc::EXDEV));
}
