//! The kernel's writeback cache, an option for measurements: what is lost with it that is not lost without, and what still holds.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::server::{Server, pattern, start};

#[test]
fn with_the_writeback_cache_a_killed_server_loses_what_was_acknowledged_but_not_what_was_synced() {
    let contents = pattern(41, 200_000);
    for (flags, kept) in [(&["writeback"][..], false), (&[], true)] {
        let Some(mut server) = start(flags) else { return };
        let mut synced = File::create(server.path("synced")).unwrap();
        synced.write_all(&contents).unwrap();
        synced.sync_all().unwrap();
        // A close writes it back.
        std::fs::write(server.path("closed"), &contents).unwrap();
        let mut open = File::create(server.path("open")).unwrap();
        open.write_all(&contents).unwrap();
        assert_eq!(open.metadata().unwrap().len(), 200_000);
        assert_eq!(std::fs::metadata(server.backing("open")).unwrap().len() > 0, kept);
        server.kill();
        drop((synced, open));
        server.again();
        for (name, expected) in [("synced", true), ("closed", true), ("open", kept)] {
            assert_eq!(std::fs::read(server.path(name)).unwrap() == contents, expected, "{name}, {flags:?}");
        }
    }
}

#[test]
fn a_suspension_writes_back_what_the_kernel_keeps_of_files_that_have_data_and_not_of_new_ones() {
    let Some(mut server) = start(&["writeback"]) else { return };
    let contents = pattern(43, 1_000_000);
    let file = |name: &str| {
        OpenOptions::new().create_new(true).read(true).write(true).open(server.path(name)).unwrap()
    };
    let (had, new) = (file("had"), file("new"));
    had.write_all_at(b"data", 0).unwrap();
    had.sync_all().unwrap();
    for file in [&had, &new] {
        file.write_all_at(&contents, 0).unwrap();
    }
    let raw = |server: &Server, name: &str| std::fs::metadata(server.backing(name)).unwrap().len();
    assert!(raw(&server, "had") < 10_000);
    let said = server.say("suspend");
    assert!(said.contains("forgotten: true, quiet: true, synced: true, wiped: true"), "{said}");
    assert!(raw(&server, "had") > 1_000_000, "it was not written back");
    // It has no key yet, and gets none while keys are refused.
    assert_eq!(raw(&server, "new"), 0);
    assert_eq!(new.read_exact_at(&mut [0; 100], 0).unwrap_err().raw_os_error(), Some(libc::ENOKEY));
    server.say("resume");
    server.kill();
    drop((had, new));
    server.again();
    assert!(std::fs::read(server.path("had")).unwrap() == contents);
    assert!(std::fs::read(server.path("new")).unwrap() != contents);
}

#[test]
fn with_the_writeback_cache_times_and_sizes_are_the_kernels_until_they_are_written_back() {
    let Some(mut server) = start(&["writeback"]) else { return };
    let file = File::create(server.path("file")).unwrap();
    let seconds = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    file.write_all_at(b"some bytes", 0).unwrap();
    file.set_modified(seconds).unwrap();
    file.sync_all().unwrap();
    drop(file);
    server.kill();
    server.again();
    let found = std::fs::metadata(server.path("file")).unwrap();
    assert_eq!((found.len(), found.mtime()), (10, 1_000_000));
}
