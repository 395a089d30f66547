//! Seals through a real mount: when files get them, and what a power loss leaves of them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::power::Disk;
use crate::server::{pattern, start};

const NAMES: [&str; 5] = ["left", "longer", "shorter", "emptied", "open"];

/// The state in a file's seal: 1 open, 2 closed.
fn state(path: &Path) -> u8 {
    let mut state = [0];
    File::open(path).unwrap().read_exact_at(&mut state, 516).unwrap();
    state[0]
}

#[test]
fn a_file_is_sealed_while_it_is_served_and_a_cut_is_noticed_by_who_serves_it_next() {
    let Some(mut server) = start(&["seal"]) else { return };
    let contents = pattern(1, 3 * 4048);
    let file = File::create(server.path("f")).unwrap();
    (&file).write_all(&contents).unwrap();
    let raw = server.backing("f");
    let written = Instant::now();
    assert_eq!(state(&raw), 1);
    drop(file);
    while state(&raw) == 1 {
        assert!(written.elapsed() < Duration::from_secs(20), "it is never sealed");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(written.elapsed() < Duration::from_secs(10), "after {:?}", written.elapsed());
    // Longer, and sealed again by the orderly end.
    File::options().append(true).open(server.path("f")).unwrap().write_all(b"more").unwrap();
    assert_eq!(state(&raw), 1);
    std::thread::sleep(Duration::from_millis(300));
    server.restart();
    assert_eq!(state(&raw), 2);
    assert_eq!(std::fs::read(server.path("f")).unwrap().len(), contents.len() + 4);
    assert_eq!(server.say("unmount"), "Unmounted");
    File::options().write(true).open(&raw).unwrap().set_len(4 * 4096).unwrap();
    server.again();
    let refused = std::fs::read(server.path("f")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    assert!(server.say("counters").contains("damaged: 1"), "it is counted");
}

#[test]
fn a_power_loss_at_any_time_makes_no_file_fail() {
    let Some(mut disk) = Disk::new(&["seal"]) else { return };
    for round in 0..4_u64 {
        let path = |disk: &Disk, name: &str| disk.server().path(&format!("{name}{round}"));
        let contents = pattern(round, 30_000);
        for name in NAMES {
            std::fs::write(path(&disk, name), &contents).unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        disk.say("seal");
        for name in NAMES {
            assert_eq!(state(&disk.server().backing(&format!("{name}{round}"))), 2, "{name}");
        }
        // What comes now is not synced, but its sizes are: by the storage's journal, for the sake of another file.
        let append = |disk: &Disk, name: &str| File::options().append(true).open(path(disk, name)).unwrap();
        append(&disk, "longer").write_all(&contents).unwrap();
        append(&disk, "shorter").set_len(5000).unwrap();
        append(&disk, "emptied").set_len(0).unwrap();
        let open = append(&disk, "open");
        (&open).write_all(b"more").unwrap();
        drop(open);
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(300));
            disk.say("seal");
            append(&disk, "left").set_len(7).unwrap();
        }
        File::create(path(&disk, "other")).unwrap().sync_all().unwrap();
        disk.restart();
        for name in NAMES {
            let found = std::fs::read(path(&disk, name)).unwrap();
            assert!(found.len() >= 7 || name == "emptied", "{name} has {} bytes", found.len());
        }
        assert!(disk.say("counters").contains("damaged: 0"));
    }
}
