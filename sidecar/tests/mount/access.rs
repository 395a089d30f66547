//! Who may do what: owners, modes, attributes, an unprivileged server.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::XattrFlags;

use crate::server::{shell, shell_as, start, start_in, start_unprivileged};

#[test]
fn extended_attributes_pass_and_ours_are_hidden_and_refused() {
    let Some(mut server) = start(&[]) else { return };
    let path = server.path("f");
    std::fs::write(&path, b"x").unwrap();
    rustix::fs::setxattr(&path, c"user.color", b"blue", XattrFlags::CREATE).unwrap();
    rustix::fs::setxattr(&path, c"security.note", b"n", XattrFlags::empty()).unwrap();
    let again = rustix::fs::setxattr(&path, c"user.color", b"", XattrFlags::CREATE);
    assert_eq!(again, Err(rustix::io::Errno::EXIST));
    let ours = rustix::fs::setxattr(&path, c"user.cofferdam.owner", b"", XattrFlags::empty());
    assert_eq!(ours, Err(rustix::io::Errno::PERM));
    server.restart();
    let mut value = [0; 10];
    assert_eq!(rustix::fs::getxattr(&path, c"user.color", &mut value[..]), Ok(4));
    let mut names = [0; 100];
    let len = rustix::fs::listxattr(&path, &mut names[..]).unwrap();
    let mut names: Vec<_> = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    assert_eq!(names, [&b"security.note"[..], b"user.color"]);
}

/// A `system.posix_acl_*` value: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// An entry for nobody in particular.
const ANY: u32 = u32::MAX;

#[test]
fn an_acl_grants_what_the_mode_does_not_and_a_default_acl_is_inherited() {
    let Some(server) = start(&[]) else { return };
    let path = server.path("f");
    std::fs::write(&path, b"secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let read = |user: u32| {
        let script = format!("cat '{}' > /dev/null 2>&1 && echo yes || echo no", path.display());
        shell_as("/".as_ref(), &script, Some((user, user, user)))
    };
    assert_eq!((read(1001), read(1002)), ("no\n".into(), "no\n".into()));
    let value = acl(&[(1, 6, ANY), (2, 4, 1001), (4, 0, ANY), (0x10, 4, ANY), (0x20, 0, ANY)]);
    rustix::fs::setxattr(&path, c"system.posix_acl_access", &value, XattrFlags::empty()).unwrap();
    assert_eq!((read(1001), read(1002)), ("yes\n".into(), "no\n".into()));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640, "the mask shows as the group's bits");
    let dir = server.path("d");
    std::fs::create_dir(&dir).unwrap();
    let value = acl(&[(1, 7, ANY), (4, 5, ANY), (0x20, 0, ANY)]);
    rustix::fs::setxattr(&dir, c"system.posix_acl_default", &value, XattrFlags::empty()).unwrap();
    shell(&dir, "umask 000; touch f; mkdir sub; umask 077; touch g");
    let mode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("f"), mode("g"), mode("sub")), (0o640, 0o640, 0o750), "the umask does not count");
    shell(&server.path(""), "umask 027; touch plain; mkdir plaindir");
    assert_eq!(std::fs::metadata(server.path("plain")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(std::fs::metadata(server.path("plaindir")).unwrap().mode() & 0o777, 0o750);
}

#[test]
fn a_write_by_somebody_else_takes_set_user_id_away() {
    let Some(server) = start(&[]) else { return };
    shell(
        &server.path(""),
        "cp /bin/true f; chmod 6777 f; chown 5:6 f; chmod 6777 f; stat -c %a f | grep -qx 6777",
    );
    shell_as(&server.path(""), "printf x >> f", Some((1001, 1001, 1001)));
    assert_eq!(shell(&server.path(""), "stat -c %a f"), "777\n");
    shell(&server.path(""), "chmod 6777 f; chown 7 f");
    assert_eq!(shell(&server.path(""), "stat -c %a f"), "777\n");
}

#[test]
fn new_objects_belong_to_their_maker_and_permissions_hold() {
    let Some(server) = start(&[]) else { return };
    shell(&server.path(""), "chmod 1777 .; umask 077; echo s > rootonly");
    let user = Some((1001, 1002, 1003));
    shell_as(&server.path(""), "umask 022; echo m > mine; mkdir d; ln -s x l; mkfifo p", user);
    for name in ["mine", "d", "l", "p"] {
        let stat = std::fs::symlink_metadata(server.path(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (1001, 1002), "{name}");
    }
    let refused = "! cat rootonly 2>/dev/null; ! rm -f rootonly 2>/dev/null; ! chown 0 mine 2>/dev/null";
    shell_as(&server.path(""), refused, user);
}

#[test]
fn a_server_without_rights_serves_a_pod_of_any_user_by_the_group_of_the_volume() {
    let Some(server) = start(&[]) else { return };
    drop(server);
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["backing", "mount"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    // As kubelet leaves a volume with an fsGroup.
    shell(dir.path(), "chgrp 2000 backing; chmod 2775 backing");
    let server = start_unprivileged(dir);
    let mount = server.path("");
    let root = std::fs::metadata(&mount).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (0, 2000, 0o2775));
    let (app, other) = (Some((1001, 1001, 2000)), Some((1002, 1002, 2000)));
    shell_as(
        &mount,
        "umask 027; echo mine > f; mkdir d; echo deep > d/g; ln -s f l; chmod 600 d/g; cat l",
        app,
    );
    let stat = std::fs::metadata(server.path("f")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (1001, 2000, 0o640), "the group of the volume");
    shell_as(
        &mount,
        "cat f; ! cat d/g 2>/dev/null; ! echo x 2>/dev/null >> f; ! chmod 777 f 2>/dev/null",
        other,
    );
    shell_as(&mount, "chmod 000 f; ! cat f 2>/dev/null; chmod 400 f; cat f; rm -f l; mv f d/f; rm -r d", app);
    let backing = std::fs::metadata(server.backing(".cofferdam/orphans")).unwrap();
    assert_eq!(backing.uid(), 65532);
}

#[test]
fn a_read_only_server_refuses_every_change() {
    let Some(server) = start(&[]) else { return };
    std::fs::write(server.path("f"), b"contents").unwrap();
    let dir = tempfile::tempdir().unwrap();
    shell(dir.path(), &format!("mkdir mount; cp -a {} backing", server.backing("").display()));
    let reader = start_in(dir, &["reader"]);
    assert_eq!(std::fs::read(reader.path("f")).unwrap(), b"contents");
    let error = std::fs::write(reader.path("f"), b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(std::fs::remove_file(reader.path("f")).unwrap_err().raw_os_error(), Some(libc::EROFS));
}
