//! Names: made, moved, removed, hidden.

use std::os::unix::fs::MetadataExt;

use super::*;

fn mode() -> NewMode {
    NewMode { mode: 0o755, umask: 0 }
}

#[test]
fn our_names_and_the_storages_cannot_be_seen_made_moved_or_removed() {
    let volume = Volume::new();
    std::fs::create_dir(volume.backing("lost+found")).unwrap();
    volume.write_file("f", b"x");
    let dir = volume.fs.mkdir(ROOT, c"d", mode(), me()).unwrap().id;
    assert_eq!(volume.names(ROOT), ["d", "f"]);
    for name in [c".cofferdam", c".cofferdamx", c"lost+found"] {
        assert_eq!(errno(volume.fs.lookup(ROOT, name)), libc::ENOENT);
        assert_eq!(errno(volume.fs.mkdir(ROOT, name, mode(), me())), libc::EPERM);
        assert_eq!(errno(volume.fs.symlink(ROOT, name, c"x", me())), libc::EPERM);
        assert_eq!(errno(volume.fs.rename(ROOT, c"f", ROOT, name, RenameHow::Replace)), libc::EPERM);
        assert_eq!(errno(volume.fs.rename(ROOT, name, ROOT, c"g", RenameHow::Replace)), libc::ENOENT);
        assert_eq!(errno(volume.fs.unlink(ROOT, name)), libc::ENOENT);
        assert_eq!(errno(volume.fs.rmdir(ROOT, name)), libc::ENOENT);
        let made = volume.fs.create(ROOT, name, mode(), me(), false, OpenHow::default());
        assert_eq!(errno(made), libc::EPERM);
    }
    assert_eq!(errno(volume.fs.mkdir(dir, c".cofferdam", mode(), me())), libc::EPERM);
    volume.fs.mkdir(dir, c"lost+found", mode(), me()).unwrap();
    assert_eq!(volume.names(dir), ["lost+found"]);
}

#[test]
fn a_symlink_on_the_storage_leads_nowhere_and_neither_do_dots() {
    let volume = Volume::new();
    std::os::unix::fs::symlink("/etc", volume.backing("out")).unwrap();
    let link = volume.lookup("out").unwrap();
    assert_eq!(volume.fs.readlink(link.id).unwrap(), b"/etc");
    assert_eq!(errno(volume.fs.lookup(link.id, c"passwd")), libc::ENOTDIR);
    assert_eq!(errno(volume.fs.opendir(link.id)), libc::ENOTDIR);
    for name in [c"..", c".", c"../etc", c"d/f"] {
        assert_eq!(errno(volume.fs.lookup(ROOT, name)), libc::EINVAL);
    }
}

#[test]
fn an_unlinked_open_file_stays_whole_among_the_orphans_until_its_last_close() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(1, 10_000));
    volume.open(id, true);
    volume.fs.unlink(ROOT, c"f").unwrap();
    assert_eq!((orphans(&volume), volume.names(ROOT).len()), (1, 0));
    assert_eq!(volume.fs.getattr(id).unwrap().nlink, 0);
    volume.fs.write_all(id, 10_000, b"more").unwrap();
    assert_eq!(volume.read_open(id).unwrap().len(), 10_004);
    volume.fs.release(id);
    assert_eq!(orphans(&volume), 0);
}

#[test]
fn a_file_that_is_replaced_while_open_is_still_the_old_one_for_its_handle() {
    let volume = Volume::new();
    let old = volume.write_file("a", b"old");
    volume.write_file("b", b"new");
    volume.open(old, false);
    volume.fs.rename(ROOT, c"b", ROOT, c"a", RenameHow::Replace).unwrap();
    assert_eq!(volume.read_open(old).unwrap(), b"old");
    assert_eq!(volume.fs.getattr(old).unwrap().nlink, 0);
    assert_eq!(volume.read_file("a").unwrap(), b"new");
    volume.fs.release(old);
    assert_eq!(volume.names(ROOT), ["a"]);
    assert_eq!(orphans(&volume), 0);
}

/// A volume whose file `a` is open and has the other name `b`, and that file's inode.
fn linked_and_open() -> (Volume, u64) {
    let volume = Volume::new();
    let id = volume.write_file("a", &pattern(1, 6000));
    volume.fs.link(id, ROOT, c"b").unwrap();
    volume.open(id, true);
    (volume, id)
}

#[test]
fn an_open_file_that_keeps_another_name_stays_one_file_when_its_handles_are_gone() {
    let remove = |volume: &Volume| volume.fs.unlink(ROOT, c"a").unwrap();
    let replace = |volume: &Volume| {
        volume.write_file("c", b"new");
        volume.fs.rename(ROOT, c"c", ROOT, c"a", RenameHow::Replace).unwrap();
    };
    for lose_name in [&remove as &dyn Fn(&Volume), &replace] {
        let (volume, id) = linked_and_open();
        lose_name(&volume);
        assert_eq!(volume.fs.getattr(id).unwrap().nlink, 1);
        volume.fs.release(id);
        let other = volume.lookup("b").unwrap();
        assert_eq!((other.id, other.attr.nlink), (id, 1), "still the same file, under its other name");
        // Two who write it at once share one size and one set of ranges.
        volume.open(id, true);
        volume.open(other.id, true);
        volume.fs.write_all(other.id, 6000, b"first").unwrap();
        volume.fs.write_all(id, 6005, b"second").unwrap();
        assert_eq!(volume.read_at(other.id, 6000, 100).unwrap(), b"firstsecond");
        volume.fs.unlink(ROOT, c"b").unwrap();
        assert_eq!(volume.fs.getattr(id).unwrap().nlink, 0);
        assert_eq!(orphans(&volume), 1, "the last name is gone, and it is open");
        volume.fs.release(id);
        volume.fs.release(other.id);
        assert_eq!(orphans(&volume), 0);
    }
}

#[test]
fn an_orphan_that_got_a_name_again_stays_the_file_that_it_was() {
    let volume = Volume::new();
    let id = volume.write_file("a", b"contents");
    volume.open(id, true);
    volume.fs.unlink(ROOT, c"a").unwrap();
    // The kernel gives a file without names none; a descriptor in /proc can.
    volume.fs.link(id, ROOT, c"b").unwrap();
    volume.fs.release(id);
    assert_eq!(orphans(&volume), 0);
    let found = volume.lookup("b").unwrap();
    assert_eq!((found.id, found.attr.nlink), (id, 1));
    assert_eq!(volume.read_file("b").unwrap(), b"contents");
}

#[test]
fn the_orphans_have_room_for_a_file_whose_number_is_taken() {
    // Storage that knows no rename without replacement (NFS) must do too.
    let volume = Volume::new();
    let id = volume.write_file("a", b"contents");
    volume.open(id, true);
    let number = volume.fs.next_orphan.load(Ordering::Relaxed);
    std::fs::write(volume.backing(".cofferdam/orphans").join(format!("{number:016x}")), "left over").unwrap();
    volume.fs.unlink(ROOT, c"a").unwrap();
    assert_eq!(volume.read_open(id).unwrap(), b"contents");
}

fn orphans(volume: &Volume) -> usize {
    std::fs::read_dir(volume.backing(".cofferdam/orphans")).unwrap().count()
}

#[test]
fn a_file_that_lost_one_of_its_names_can_still_be_given_back() {
    let volume = Volume::new();
    let given_back = |id| {
        let inode = volume.fs.inode(id).unwrap();
        inode.idle_name();
        // Asked a second time, it was not used since.
        let name = inode.idle_name();
        inode.forget_fd();
        volume.fs.getattr(id).unwrap();
        name.map(|(_, name)| name.into_string().unwrap())
    };
    let made = volume.write_file("a", b"x");
    volume.fs.link(made, ROOT, c"b").unwrap();
    volume.fs.unlink(ROOT, c"a").unwrap();
    assert_eq!(given_back(made).as_deref(), Some("b"), "a link is a name");
    volume.write_file("c", b"x");
    std::fs::hard_link(volume.backing("c"), volume.backing("d")).unwrap();
    let known = volume.lookup("c").unwrap().id;
    volume.fs.unlink(ROOT, c"c").unwrap();
    assert_eq!(volume.lookup("d").unwrap().id, known);
    assert_eq!(given_back(known).as_deref(), Some("d"), "so is what a lookup finds");
}

#[test]
fn renames_obey_their_flags() {
    let volume = Volume::new();
    volume.write_file("a", b"a");
    volume.write_file("b", b"b");
    assert_eq!(errno(volume.fs.rename(ROOT, c"a", ROOT, c"b", RenameHow::NoReplace)), libc::EEXIST);
    volume.fs.rename(ROOT, c"a", ROOT, c"b", RenameHow::Exchange).unwrap();
    assert_eq!(volume.read_file("a").unwrap(), b"b");
    assert_eq!(volume.read_file("b").unwrap(), b"a");
    assert_eq!(errno(volume.fs.rename(ROOT, c"a", ROOT, c"c", RenameHow::Exchange)), libc::ENOENT);
    volume.fs.rename(ROOT, c"a", ROOT, c"c", RenameHow::NoReplace).unwrap();
    assert_eq!(volume.names(ROOT), ["b", "c"]);
    let id = volume.lookup("b").unwrap().id;
    volume.fs.link(id, ROOT, c"b2").unwrap();
    volume.fs.rename(ROOT, c"b", ROOT, c"b2", RenameHow::Replace).unwrap();
    assert_eq!(volume.names(ROOT), ["b", "b2", "c"], "two names of one file: nothing happens");
}

#[test]
fn what_the_kernel_knows_follows_a_renamed_directory() {
    let volume = Volume::new();
    let a = volume.fs.mkdir(ROOT, c"a", mode(), me()).unwrap().id;
    let b = volume.fs.mkdir(a, c"b", mode(), me()).unwrap().id;
    let how = OpenHow { write: true, ..OpenHow::default() };
    let file = volume.fs.create(b, c"f", mode(), me(), true, how).unwrap().id;
    volume.fs.write_all(file, 0, b"deep").unwrap();
    volume.fs.release(file);
    volume.fs.rename(ROOT, c"a", ROOT, c"z", RenameHow::Replace).unwrap();
    // Descriptors are opened anew by names: through the new one.
    for id in [a, b, file] {
        volume.fs.inode(id).unwrap().forget_fd();
    }
    volume.open(file, false);
    assert_eq!(volume.read_open(file).unwrap(), b"deep");
}

#[test]
fn more_inodes_than_descriptors_are_all_reachable() {
    let mut volume = Volume::new();
    volume.fs = {
        let root = std::fs::File::open(volume.dir.path()).unwrap();
        let mut fs =
            EncryptedFs::new(root.as_fd(), volume.options.clone(), Arc::clone(&volume.keys) as _).unwrap();
        fs.table = Table::new(
            Anchor::reference(openat(&root, ".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()),
            Identity::of(&rustix::fs::fstat(&root).unwrap()),
            20,
        );
        Arc::new(fs)
    };
    let ids: Vec<u64> =
        (0..200).map(|n| volume.write_file(&format!("f{n}"), format!("{n}").as_bytes())).collect();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for (n, id) in ids.iter().enumerate() {
        volume.open(*id, false);
        assert_eq!(volume.read_open(*id).unwrap(), format!("{n}").as_bytes());
        volume.fs.release(*id);
    }
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() <= open + 25);
}

#[test]
fn a_name_that_became_another_object_is_stale_for_the_old_inode() {
    let volume = Volume::new();
    let id = volume.write_file("f", b"old");
    volume.fs.inode(id).unwrap().forget_fd();
    std::fs::rename(volume.backing("f"), volume.backing("gone")).unwrap();
    std::fs::write(volume.backing("f"), b"other").unwrap();
    assert_eq!(errno(volume.fs.getattr(id)), libc::ESTALE);
}

#[test]
fn a_deleted_number_that_comes_back_is_another_inode() {
    let volume = Volume::new();
    for round in 0..200 {
        let contents = format!("contents {round}");
        let id = volume.write_file("f", contents.as_bytes());
        volume.open(id, false);
        assert_eq!(volume.read_open(id).unwrap(), contents.as_bytes());
        volume.fs.release(id);
        volume.fs.unlink(ROOT, c"f").unwrap();
    }
}

#[test]
fn forgotten_inodes_go_and_parents_of_known_ones_stay() {
    let volume = Volume::new();
    let dir = volume.fs.mkdir(ROOT, c"d", mode(), me()).unwrap().id;
    let made =
        volume.fs.mknod(dir, c"f", NewMode { mode: libc::S_IFREG | 0o600, umask: 0 }, 0, me()).unwrap();
    assert_eq!(volume.fs.inodes(), 3);
    volume.fs.forget(dir, 1);
    assert_eq!(volume.fs.inodes(), 3);
    volume.fs.inode(made.id).unwrap().forget_fd();
    assert_eq!(volume.fs.getattr(made.id).unwrap().size, 0);
    volume.fs.forget(made.id, 1);
    assert_eq!(volume.fs.inodes(), 1);
}

#[test]
fn every_kind_of_object_but_a_device_can_be_made() {
    let volume = Volume::new();
    for (name, kind) in [("p", libc::S_IFIFO), ("s", libc::S_IFSOCK), ("r", libc::S_IFREG)] {
        let mode = NewMode { mode: kind | 0o640, umask: 0 };
        let made = volume.fs.mknod(ROOT, &cstr(name), mode, 0, me()).unwrap();
        assert_eq!(made.attr.mode, kind | 0o640);
    }
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        let mode = NewMode { mode: kind | 0o640, umask: 0 };
        assert_eq!(errno(volume.fs.mknod(ROOT, c"dev", mode, 0, me())), libc::EPERM);
    }
    let link = volume.fs.symlink(ROOT, c"l", c"somewhere/else", me()).unwrap();
    assert_eq!((link.attr.size, link.attr.mode), (14, libc::S_IFLNK | 0o777));
    let file = volume.lookup("r").unwrap();
    let linked = volume.fs.link(file.id, ROOT, c"r2").unwrap();
    assert_eq!((linked.id, linked.attr.nlink), (file.id, 2));
    assert_eq!(std::fs::metadata(volume.backing("r2")).unwrap().nlink(), 2);
}

#[test]
fn what_was_made_and_cannot_be_served_is_removed_again() {
    let mut volume = Volume::new();
    let root = std::fs::File::open(volume.dir.path()).unwrap();
    let mut fs =
        EncryptedFs::new(root.as_fd(), volume.options.clone(), Arc::clone(&volume.keys) as _).unwrap();
    // As if the directory were of another filesystem: what is made in it is none of the volume's.
    fs.device = u64::MAX;
    volume.fs = Arc::new(fs);
    let how = OpenHow { write: true, ..OpenHow::default() };
    assert_eq!(errno(volume.fs.create(ROOT, c"f", mode(), me(), true, how)), libc::EXDEV);
    assert_eq!(errno(volume.fs.mkdir(ROOT, c"d", mode(), me())), libc::EXDEV);
    assert_eq!(errno(volume.fs.symlink(ROOT, c"l", c"x", me())), libc::EXDEV);
    for (name, kind) in [(c"r", libc::S_IFREG), (c"p", libc::S_IFIFO)] {
        let mode = NewMode { mode: kind | 0o600, umask: 0 };
        assert_eq!(errno(volume.fs.mknod(ROOT, name, mode, 0, me())), libc::EXDEV);
    }
    let left: Vec<_> =
        std::fs::read_dir(volume.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".cofferdam"]);
}

#[test]
fn every_way_to_another_name_counts_for_a_sweep_that_is_under_way() {
    let volume = Volume::new();
    let count = || volume.fs.counters().renamed.load(Ordering::Relaxed);
    let id = volume.write_file("a", b"x");
    volume.fs.link(id, ROOT, c"b").unwrap();
    assert_eq!(count(), 1, "a link, of which the older name may go");
    volume.fs.rename(ROOT, c"b", ROOT, c"c", RenameHow::Replace).unwrap();
    assert_eq!(count(), 2);
    volume.fs.unlink(ROOT, c"a").unwrap();
    assert_eq!(count(), 2, "what is gone need not be found");
    volume.open(id, false);
    volume.fs.unlink(ROOT, c"c").unwrap();
    assert_eq!(count(), 3, "an open file that is unlinked lives on elsewhere");
}

#[test]
fn a_large_directory_is_listed_once_and_whole() {
    let volume = Volume::new();
    let names: Vec<String> = (0..500).map(|n| format!("a-rather-long-name-{n:04}")).collect();
    for name in &names {
        std::fs::write(volume.backing(name), "").unwrap();
    }
    assert_eq!(volume.names(ROOT), names);
}

#[test]
fn a_reader_changes_nothing() {
    let mut volume = Volume::new();
    let id = volume.write_file("f", b"x");
    let _ = id;
    volume.options.read_only = true;
    volume.restart();
    let id = volume.lookup("f").unwrap().id;
    assert_eq!(errno(volume.fs.unlink(ROOT, c"f")), libc::EROFS);
    assert_eq!(errno(volume.fs.mkdir(ROOT, c"d", mode(), me())), libc::EROFS);
    assert_eq!(errno(volume.fs.open(id, OpenHow { write: true, ..OpenHow::default() })), libc::EROFS);
    assert_eq!(errno(volume.fs.setattr(id, &SetAttr { mode: Some(0), ..SetAttr::default() })), libc::EROFS);
    volume.keys.rotate("2");
    assert_eq!(volume.read_file("f").unwrap(), b"x");
    assert_eq!(volume.fs.counters().upgraded.load(Ordering::Relaxed), 0);
}
