//! Owner, mode, times and extended attributes, with both kinds of ownership.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn virtual_volume() -> Volume {
    Volume::make(Make { ownership: Ownership::Virtual, ..Make::default() })
}

#[test]
fn virtual_ownership_is_what_the_application_sees_and_not_what_lies_on_the_storage() {
    let mut volume = virtual_volume();
    let caller = Caller { uid: 1000, gid: 2000 };
    let how = OpenHow { write: true, ..OpenHow::default() };
    let mode = NewMode { mode: 0o666, umask: 0o027 };
    let file = volume.fs.create(ROOT, c"f", mode, caller, true, how).unwrap();
    let dir = volume.fs.mkdir(ROOT, c"d", NewMode { mode: 0o1777, umask: 0 }, caller).unwrap();
    volume.fs.write_all(file.id, 0, b"x").unwrap();
    assert_eq!((file.attr.uid, file.attr.gid, file.attr.mode & 0o7777), (1000, 2000, 0o640));
    assert_eq!((dir.attr.uid, dir.attr.gid, dir.attr.mode & 0o7777), (1000, 2000, 0o1777));
    let change = SetAttr { mode: Some(0o200), uid: Some(5), ..SetAttr::default() };
    volume.fs.setattr(file.id, &change).unwrap();
    volume.restart();
    let attr = volume.lookup("f").unwrap().attr;
    assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (5, 2000, 0o200));
    let backing = |name| std::fs::metadata(volume.backing(name)).unwrap();
    assert_eq!((backing("f").uid(), backing("f").permissions().mode() & 0o777), (me().uid, 0o600));
    assert_eq!((backing("d").uid(), backing("d").permissions().mode() & 0o777), (me().uid, 0o700));
    assert_eq!(volume.read_file("f").unwrap(), b"x", "a file that nobody may read can still be rewrapped");
}

#[test]
fn set_group_id_of_a_directory_is_inherited_with_virtual_ownership() {
    let volume = virtual_volume();
    let team = NewMode { mode: 0o2775, umask: 0 };
    let dir = volume.fs.mkdir(ROOT, c"team", team, Caller { uid: 1, gid: 77 }).unwrap().id;
    let other = Caller { uid: 2, gid: 2 };
    let plain = NewMode { mode: 0o755, umask: 0 };
    let sub = volume.fs.mkdir(dir, c"sub", plain, other).unwrap().attr;
    assert_eq!((sub.gid, sub.mode & 0o7777), (77, 0o2755));
    let file = volume.fs.create(dir, c"f", plain, other, true, OpenHow::default()).unwrap().attr;
    assert_eq!((file.uid, file.gid, file.mode & 0o7777), (2, 77, 0o755));
}

#[test]
fn what_can_carry_no_attribute_belongs_to_its_directorys_owner() {
    let volume = virtual_volume();
    let plain = NewMode { mode: 0o755, umask: 0 };
    let caller = Caller { uid: 1000, gid: 1000 };
    let dir = volume.fs.mkdir(ROOT, c"d", plain, caller).unwrap().id;
    let link = volume.fs.symlink(dir, c"l", c"x", caller).unwrap();
    assert_eq!((link.attr.uid, link.attr.gid, link.attr.mode & 0o7777), (1000, 1000, 0o777));
    let same = SetAttr { uid: Some(1000), gid: Some(1000), ..SetAttr::default() };
    volume.fs.setattr(link.id, &same).unwrap();
    let other = SetAttr { uid: Some(1), ..SetAttr::default() };
    assert_eq!(errno(volume.fs.setattr(link.id, &other)), libc::EPERM);
}

#[test]
fn privileges_go_when_a_file_is_written_cut_or_given_away() {
    for ownership in [Ownership::Native, Ownership::Virtual] {
        let volume = Volume::make(Make { ownership, ..Make::default() });
        let id = volume.write_file("f", b"x");
        let set = |mode| volume.fs.setattr(id, &SetAttr { mode: Some(mode), ..SetAttr::default() });
        let mode = || volume.fs.getattr(id).unwrap().mode & 0o7777;
        volume.open(id, true);
        set(0o6755).unwrap();
        let how = WriteHow { clear_privileges: true, ..WriteHow::default() };
        volume.fs.write(id, 0, b"y", how, &mut Scratch::new()).unwrap();
        assert_eq!(mode(), 0o755);
        set(0o6745).unwrap();
        let cut = SetAttr { size: Some(0), clear_privileges: true, ..SetAttr::default() };
        volume.fs.setattr(id, &cut).unwrap();
        assert_eq!(mode(), 0o2745, "set-group-id without execution means locking");
        set(0o6755).unwrap();
        let me = me();
        let own = SetAttr { uid: Some(me.uid), gid: Some(me.gid), ..SetAttr::default() };
        volume.fs.setattr(id, &own).unwrap();
        assert_eq!(mode(), 0o755);
    }
}

#[test]
fn native_ownership_is_the_storages_own() {
    if !is_root() {
        eprintln!("SKIPPED: only root gives files away");
        return;
    }
    let volume = Volume::new();
    let caller = Caller { uid: 1000, gid: 2000 };
    let mode = NewMode { mode: 0o6777, umask: 0o022 };
    let file = volume.fs.create(ROOT, c"f", mode, caller, true, OpenHow::default()).unwrap();
    assert_eq!((file.attr.uid, file.attr.gid, file.attr.mode & 0o7777), (1000, 2000, 0o6755));
    let team = NewMode { mode: 0o2777, umask: 0 };
    let dir = volume.fs.mkdir(ROOT, c"d", team, Caller { uid: 1, gid: 77 }).unwrap();
    let plain = NewMode { mode: 0o777, umask: 0 };
    let sub = volume.fs.mkdir(dir.id, c"s", plain, caller).unwrap();
    assert_eq!((sub.attr.uid, sub.attr.gid, sub.attr.mode & 0o7777), (1000, 77, 0o2777));
    let link = volume.fs.symlink(dir.id, c"l", c"x", caller).unwrap();
    assert_eq!((link.attr.uid, link.attr.gid), (1000, 77));
    let fifo = volume.fs.mknod(ROOT, c"p", NewMode { mode: libc::S_IFIFO | 0o666, umask: 0 }, 0, caller);
    assert_eq!((fifo.as_ref().unwrap().attr.uid, fifo.unwrap().attr.mode & 0o7777), (1000, 0o666));
    assert_eq!(std::fs::metadata(volume.backing("f")).unwrap().uid(), 1000);
}

#[test]
fn times_are_set_and_kept_through_a_restart_even_before_1970() {
    let mut volume = Volume::new();
    let id = volume.write_file("f", b"x");
    let early = Time { seconds: -10, nanoseconds: 5 };
    let late = Time { seconds: 4_000_000_000, nanoseconds: 999_999_999 };
    let change = SetAttr { atime: SetTime::To(early), mtime: SetTime::To(late), ..SetAttr::default() };
    volume.fs.setattr(id, &change).unwrap();
    volume.restart();
    let attr = volume.lookup("f").unwrap().attr;
    assert_eq!((attr.atime, attr.mtime), (early, late));
    let id = volume.lookup("f").unwrap().id;
    let now = SetAttr { mtime: SetTime::Now, ..SetAttr::default() };
    let attr = volume.fs.setattr(id, &now).unwrap();
    assert!(attr.atime == early && attr.mtime != late);
}

#[test]
fn a_truncation_to_the_same_size_changes_the_time_and_a_write_does() {
    let volume = Volume::new();
    let id = volume.write_file("f", b"x");
    let early = SetAttr { mtime: SetTime::To(Time::default()), ..SetAttr::default() };
    volume.fs.setattr(id, &early).unwrap();
    volume.fs.setattr(id, &SetAttr { size: Some(1), ..SetAttr::default() }).unwrap();
    assert_ne!(volume.fs.getattr(id).unwrap().mtime, Time::default());
}

#[test]
fn our_attributes_are_hidden_and_refused_and_others_pass() {
    for ownership in [Ownership::Native, Ownership::Virtual] {
        let volume = Volume::make(Make { ownership, ..Make::default() });
        let id = volume.write_file("f", b"x");
        volume.fs.setxattr(id, c"user.color", b"blue", 0, false).unwrap();
        assert_eq!(volume.fs.getxattr(id, c"user.color").unwrap(), b"blue");
        assert_eq!(volume.fs.listxattr(id).unwrap(), b"user.color\0");
        assert_eq!(errno(volume.fs.setxattr(id, c"user.color", b"", 1, false)), libc::EEXIST);
        volume.fs.removexattr(id, c"user.color").unwrap();
        assert_eq!(errno(volume.fs.getxattr(id, c"user.color")), libc::ENODATA);
        for name in [c"user.cofferdam.owner", c"user.cofferdam.x"] {
            assert_eq!(errno(volume.fs.getxattr(id, name)), libc::ENODATA);
            assert_eq!(errno(volume.fs.setxattr(id, name, b"", 0, false)), libc::EPERM);
            assert_eq!(errno(volume.fs.removexattr(id, name)), libc::ENODATA);
        }
    }
}

#[test]
fn the_gates_challenge_is_answered_on_the_root_only() {
    let volume = Volume::new();
    volume.fs.set_challenge(Box::new(|nonce| (nonce == "ab").then(|| b"answer".to_vec())));
    let ask = |id, nonce: &str| {
        let name = cstr(&format!("{}{nonce}", contract::gate::CHALLENGE_XATTR_PREFIX));
        volume.fs.getxattr(id, &name)
    };
    assert_eq!(ask(ROOT, "ab").unwrap(), b"answer");
    assert_eq!(errno(ask(ROOT, "cd")), libc::ENODATA);
    let id = volume.write_file("f", b"x");
    assert_eq!(errno(ask(id, "ab")), libc::ENODATA);
}

#[test]
fn there_are_no_acls_with_virtual_ownership() {
    let volume = virtual_volume();
    let id = volume.write_file("f", b"x");
    let acl = c"system.posix_acl_access";
    assert_eq!(errno(volume.fs.getxattr(id, acl)), libc::EOPNOTSUPP);
    assert_eq!(errno(volume.fs.setxattr(id, acl, b"", 0, false)), libc::EOPNOTSUPP);
}

#[test]
fn storage_without_user_attributes_does_not_serve_virtual_ownership() {
    let Some((_mount, volume)) = mounted_volume("ramfs", None) else { return };
    let options = Options { ownership: Ownership::Virtual, ..volume.options.clone() };
    let root = std::fs::File::open(volume.dir.path()).unwrap();
    let made = EncryptedFs::new(root.as_fd(), options, Arc::clone(&volume.keys) as _);
    assert_eq!(made.err().map(|error| error.errno()), Some(libc::EOPNOTSUPP));
}
