//! A killed server, and slow keys.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::server::{Server, shell, start};

const LEN: usize = 5000;

/// The place and the contents of a write.
fn step_of(round: u8, step: u64) -> (usize, [u8; LEN]) {
    ((step * 7919 % 200_000) as usize, [round.wrapping_mul(31).wrapping_add(step as u8); LEN])
}

/// Makes a file and overwrites a part of another one, again and again, until that fails; how many steps were acknowledged.
fn write_until_it_fails(path: &Path, dir: &Path, round: u8, acknowledged: &AtomicU64) {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    for step in 0.. {
        let (offset, data) = step_of(round, step);
        let made = std::fs::write(dir.join(format!("{round}-{step}")), data);
        if made.and_then(|()| file.write_all_at(&data, offset as u64)).is_err() {
            return;
        }
        acknowledged.store(step + 1, Ordering::SeqCst);
    }
}

/// Kills the server while a thread writes; how many steps were acknowledged.
fn kill_under_load(server: &mut Server, round: u8) -> u64 {
    let (path, dir) = (server.path("file"), server.path(""));
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until_it_fails(&path, &dir, round, &acknowledged));
        while acknowledged.load(Ordering::SeqCst) < 20 + 13 * u64::from(round) {
            std::thread::yield_now();
        }
        assert!(!writer.is_finished(), "nothing is in flight");
        server.kill();
    });
    acknowledged.into_inner()
}

#[test]
fn what_was_acknowledged_before_the_server_was_killed_is_there_and_every_file_opens() {
    let Some(mut server) = start(&[]) else { return };
    let mut model = Vec::new();
    for round in 0..10 {
        let steps = kill_under_load(&mut server, round);
        server.again();
        for step in 0..steps {
            let (offset, data) = step_of(round, step);
            if model.len() < offset + LEN {
                model.resize(offset + LEN, 0);
            }
            model[offset..offset + LEN].copy_from_slice(&data);
            let made = std::fs::read(server.path(&format!("{round}-{step}"))).unwrap();
            assert!(made == data, "a file of its own, round {round} step {step} of {steps}");
        }
        let found = std::fs::read(server.path("file")).unwrap();
        // The write that was under way is there, or not, or in part.
        let (offset, data) = step_of(round, steps);
        assert!(found.len() >= model.len());
        model.resize(found.len(), 0);
        for (at, byte) in found.iter().enumerate() {
            let in_flight = (offset..offset + LEN).contains(&at) && *byte == data[0];
            assert!(*byte == model[at] || in_flight, "byte {at} in round {round}");
        }
        model = found;
    }
    shell(&server.path(""), "for f in *; do cat \"$f\" > /dev/null; done");
}

#[test]
fn a_slow_key_stops_neither_other_files_nor_names_however_many_wait() {
    let Some(mut server) = start(&[]) else { return };
    for n in 0..100 {
        std::fs::write(server.path(&format!("cold{n}")), b"cold").unwrap();
    }
    std::fs::write(server.path("hot"), vec![1; 100_000]).unwrap();
    server.restart();
    let hot = OpenOptions::new().read(true).write(true).open(server.path("hot")).unwrap();
    hot.read_at(&mut [0; 10], 0).unwrap();
    server.say("delay 1500");
    std::thread::scope(|scope| {
        for n in 0..100 {
            let path = server.path(&format!("cold{n}"));
            scope.spawn(move || assert_eq!(std::fs::read(path).unwrap(), b"cold"));
        }
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        for offset in (0..90_000).step_by(5000) {
            hot.write_all_at(&[2; 100], offset).unwrap();
            hot.read_exact_at(&mut [0; 4096], offset).unwrap();
        }
        let names = std::fs::read_dir(server.path("")).unwrap();
        let sizes: u64 = names.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(sizes, 100 * 4 + 100_000);
        // A request that found no idle ring of its processor is not given to a ring that is started then: the first keys come first.
        let most = if crate::io_uring::flag().is_some() { 3000 } else { 1100 };
        assert!(begun.elapsed() < Duration::from_millis(most), "{:?}", begun.elapsed());
    });
    server.say("delay 0");
}

#[test]
fn the_kernel_gives_inodes_back_that_nobody_uses_and_what_is_used_stays() {
    let Some(mut server) = start(&[]) else { return };
    shell(&server.path(""), "mkdir d; for n in $(seq 500); do echo $n > d/$n; done");
    let open = OpenOptions::new().read(true).open(server.path("d/7")).unwrap();
    let known = |server: &mut Server| {
        let counters = server.say("counters");
        counters.split("inodes ").last().unwrap().parse::<usize>().unwrap()
    };
    assert!(known(&mut server) > 500);
    // The first round takes the marks of use away.
    for _ in 0..2 {
        server.say("give-back 10");
    }
    // The kernel forgets by a request of its own.
    let mut after = known(&mut server);
    for _ in 0..100 {
        if after <= 20 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        after = known(&mut server);
    }
    assert!((3..=20).contains(&after), "{after} inodes: at least the root, the directory and the open file");
    let mut text = [0; 1];
    open.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"7");
    assert_eq!(shell(&server.path("d"), "cat 7 499; ls | wc -l"), "7\n499\n500\n");
    assert!(known(&mut server) > 3);
}
