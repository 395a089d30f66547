//! The facts about the kernel that the driver rests on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use node::kernel::{Kernel, Tmpfs, is_connected};

use crate::support::{fuse, isolated, look_at, outcome, wait_for};

const SOON: Duration = Duration::from_secs(5);

fn kernel() -> Kernel {
    Kernel::new("/sys/fs/fuse/connections".into()).unwrap()
}

#[test]
fn a_mount_without_a_server_returns_at_once_and_only_init_waits() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        let target = dir.path().join("mount");
        let start = Instant::now();
        let connection = kernel.mount_fuse(&target, "cofferdam:a", false).unwrap();
        assert!(start.elapsed() < SOON);
        assert_eq!(kernel.waiting(connection.minor), Some(1));
        let mount = kernel.mounted(&target).unwrap().unwrap();
        assert_eq!((mount.fs_type.as_str(), mount.source.as_str()), ("fuse.cofferdam", "cofferdam:a"));
        let waiter = look_at(&target);
        wait_for("a second request to wait", SOON, || kernel.waiting(connection.minor) == Some(2));
        kernel.abort(connection.minor).unwrap();
        let (ok, complaint) = outcome(waiter, SOON);
        assert!(!ok && !complaint.is_empty());
        assert!(!is_connected(&connection.fd));
        kernel.unmount_all(&target).unwrap();
        kernel.remove_directory(&target).unwrap();
        assert_eq!(kernel.waiting(connection.minor), None);
    });
}

#[test]
fn a_process_waits_for_a_dead_server_whose_descriptor_is_held_until_the_connection_is_aborted() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        let target = dir.path().join("mount");
        let connection = kernel.mount_fuse(&target, "cofferdam:a", false).unwrap();
        let mut server = fuse::device(connection.fd.try_clone().unwrap());
        fuse::answer_init(&mut server);
        let mut waiter = look_at(&target);
        wait_for("the request", SOON, || kernel.waiting(connection.minor) == Some(1));
        // The server takes the request and dies: even SIGKILL does not end the waiter now.
        let mut request = vec![0; 1 << 18];
        std::io::Read::read(&mut server, &mut request).unwrap();
        drop(server);
        waiter.kill().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(waiter.try_wait().unwrap().is_none() && is_connected(&connection.fd));
        kernel.abort(connection.minor).unwrap();
        outcome(waiter, SOON);
    });
}

#[test]
fn a_connection_ends_by_itself_when_the_last_descriptor_closes() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        let target = dir.path().join("mount");
        let connection = kernel.mount_fuse(&target, "cofferdam:a", false).unwrap();
        let waiter = look_at(&target);
        wait_for("the request", SOON, || kernel.waiting(connection.minor) == Some(2));
        drop(connection.fd);
        assert!(!outcome(waiter, SOON).0);
        assert!(kernel.mounted(&target).unwrap().is_some());
    });
}

#[test]
fn unmounting_a_connection_on_which_processes_wait_takes_no_time() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        let target = dir.path().join("mount");
        let first = kernel.mount_fuse(&target, "cofferdam:a", false).unwrap();
        let waiter = look_at(&target);
        wait_for("the request", SOON, || kernel.waiting(first.minor) == Some(2));
        let start = Instant::now();
        kernel.unmount_all(&target).unwrap();
        kernel.unmount_all(&target).unwrap();
        kernel.remove_directory(&target).unwrap();
        kernel.remove_directory(&target).unwrap();
        assert!(start.elapsed() < SOON);
        assert!(kernel.mounted(&target).unwrap().is_none() && !target.exists());
        // The waiter holds the connection, until it is aborted.
        kernel.abort(first.minor).unwrap();
        assert!(!outcome(waiter, SOON).0);
    });
}

#[test]
fn a_read_only_mount_is_read_only_and_none_honours_devices_or_set_uid_programs() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        for (name, read_only) in [("ro", true), ("rw", false)] {
            let target = dir.path().join(name);
            let _connection = kernel.mount_fuse(&target, name, read_only).unwrap();
            assert_eq!(kernel.mounted(&target).unwrap().unwrap().read_only, read_only);
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let line = table.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
            for option in ["nosuid", "nodev", "allow_other", "default_permissions", "user_id=0", "group_id=0"]
            {
                assert!(line.contains(option), "{option}: {line}");
            }
        }
    });
}

#[test]
fn a_tmpfs_belongs_to_one_user_and_has_a_size() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        let target = dir.path().join("run");
        kernel.mount_tmpfs(&target, Tmpfs { bytes: 1 << 20, uid: 65532, gid: 65533 }).unwrap();
        let meta = fs::metadata(&target).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (65532, 65533, 0o700));
        assert!(fs::write(target.join("fits"), vec![1; 1 << 19]).is_ok());
        assert!(fs::write(target.join("does-not"), vec![1; 1 << 20]).is_err());
    });
}

#[test]
fn a_bound_directory_cannot_be_written_through_its_mount() {
    isolated(|| {
        let (kernel, dir) = (kernel(), tempfile::tempdir().unwrap());
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        fs::create_dir(&source).unwrap();
        kernel.bind_read_only(&source, &target).unwrap();
        let touch = Command::new("touch").arg(target.join("file")).output().unwrap();
        assert!(!touch.status.success());
        fs::write(source.join("file"), b"seen").unwrap();
        assert_eq!(fs::read(target.join("file")).unwrap(), b"seen");
        kernel.unmount_all(&target).unwrap();
        assert!(!target.join("file").exists());
    });
}
