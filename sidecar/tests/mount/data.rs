//! System calls on files' contents.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::FallocateFlags;

use crate::server::{pattern, shell, start};

#[test]
fn appends_of_eight_processes_are_whole_records() {
    let Some(server) = start(&[]) else { return };
    let script = "for process in 1 2 3 4 5 6 7 8; do
            ( for n in $(seq 100); do printf '%s:%04d:%090d\\n' $process $n 0; done >> log ) &
        done; wait";
    // One write for each record: printf is a builtin that writes at once.
    shell(&server.path(""), script);
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    let mut last = [0; 9];
    for line in log.lines() {
        assert_eq!(line.len(), 97, "{line}");
        let process: usize = line[..1].parse().unwrap();
        let number: u32 = line[2..6].parse().unwrap();
        assert_eq!(number, last[process] + 1);
        last[process] = number;
    }
    assert_eq!(last[1..], [100; 8]);
}

#[test]
fn writers_of_one_block_through_hard_links_and_descriptors_lose_nothing() {
    let Some(server) = start(&[]) else { return };
    std::fs::write(server.path("a"), vec![0; 8096]).unwrap();
    std::fs::hard_link(server.path("a"), server.path("b")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let path = server.path(if thread % 2 == 0 { "a" } else { "b" });
            scope.spawn(move || {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                for round in 0..30_u8 {
                    for stripe in (thread..80).step_by(8) {
                        file.write_all_at(&[round; 100], stripe * 100).unwrap();
                    }
                }
            });
        }
    });
    let contents = std::fs::read(server.path("a")).unwrap();
    assert!(contents[..8000].iter().all(|byte| *byte == 29));
    assert_eq!(contents, std::fs::read(server.path("b")).unwrap());
}

#[test]
fn a_shared_mapping_and_descriptors_see_each_other_and_the_storage_gets_it() {
    let Some(mut server) = start(&[]) else { return };
    let contents = pattern(1, 100_000);
    std::fs::write(server.path("f"), &contents).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(server.path("f")).unwrap();
    crate::suspension::with_mapping(&file, 100_000, |map| {
        assert_eq!(map[..], contents[..]);
        map[5000..5004].copy_from_slice(b"mmap");
        let mut read = [0; 4];
        file.read_exact_at(&mut read, 5000).unwrap();
        assert_eq!(&read, b"mmap");
        file.write_all_at(b"pwrite", 60_000).unwrap();
        assert_eq!(&map[60_000..60_006], b"pwrite");
        map[99_999] = b'!';
    });
    drop(file);
    server.restart();
    let mut expected = contents;
    expected[5000..5004].copy_from_slice(b"mmap");
    expected[60_000..60_006].copy_from_slice(b"pwrite");
    expected[99_999] = b'!';
    assert_eq!(std::fs::read(server.path("f")).unwrap(), expected);
}

#[test]
fn an_unlinked_and_a_replaced_file_live_until_their_last_close() {
    let Some(server) = start(&[]) else { return };
    std::fs::write(server.path("f"), b"contents").unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(server.path("f")).unwrap();
    std::fs::write(server.path("g"), b"other").unwrap();
    std::fs::rename(server.path("g"), server.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b" and more").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "contents and more");
    let other = File::open(server.path("f")).unwrap();
    std::fs::remove_file(server.path("f")).unwrap();
    assert_eq!(std::io::read_to_string(&other).unwrap(), "other");
    let orphans = || std::fs::read_dir(server.backing(".cofferdam/orphans")).unwrap().count();
    assert_eq!(orphans(), 2);
    drop((file, other));
    // RELEASE is not waited for by close(2).
    for _ in 0..100 {
        if orphans() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the orphans are still there");
}

#[test]
fn truncation_holes_and_preallocation_are_what_a_local_filesystem_does() {
    let Some(server) = start(&[]) else { return };
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(server.path("f")).unwrap();
    file.write_all_at(b"end", 1_000_000).unwrap();
    assert!(file.metadata().unwrap().blocks() < 100);
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!((1_000_000 - 4048..=1_000_000).contains(&data), "{data}");
    let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).unwrap();
    assert_eq!(hole, 0);
    file.set_len(500_000).unwrap();
    file.write_all_at(&vec![1; 100_000], 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 10_000, 50_000).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 600_000).unwrap();
    let mut expected = vec![0; 600_000];
    expected[..10_000].fill(1);
    expected[60_000..100_000].fill(1);
    assert!(std::fs::read(server.path("f")).unwrap() == expected);
    let collapse = rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(collapse, Err(rustix::io::Errno::OPNOTSUPP));
}

#[test]
fn copy_file_range_copies_plaintext() {
    let Some(server) = start(&[]) else { return };
    let contents = pattern(2, 300_000);
    std::fs::write(server.path("from"), &contents).unwrap();
    let from = File::open(server.path("from")).unwrap();
    let to = File::create(server.path("to")).unwrap();
    let mut offset = 1000;
    let copied = rustix::fs::copy_file_range(&from, Some(&mut offset), &to, None, 200_000).unwrap();
    assert!(copied > 0);
    assert_eq!(std::fs::read(server.path("to")).unwrap(), contents[1000..1000 + copied]);
    assert_ne!(std::fs::read(server.backing("to")).unwrap()[4096..4196], contents[1000..1100]);
}

#[test]
fn a_small_file_that_was_opened_is_read_without_a_request() {
    let Some(mut server) = start(&[]) else { return };
    let contents = pattern(3, 10_000);
    std::fs::write(server.path("f"), &contents).unwrap();
    server.restart();
    let file = File::open(server.path("f")).unwrap();
    assert!(server.say("counters").contains("prefetched: 1"));
    let mut found = Vec::new();
    (&file).read_to_end(&mut found).unwrap();
    assert_eq!(found, contents);
    assert!(server.say("counters").contains("read_bytes: 0"), "it was in the kernel already");
    let writer = OpenOptions::new().write(true).open(server.path("f")).unwrap();
    writer.write_all_at(b"other", 5000).unwrap();
    let mut seen = [0; 5];
    file.read_exact_at(&mut seen, 5000).unwrap();
    assert_eq!(&seen, b"other");
}

#[test]
fn who_opens_a_file_that_is_being_written_reads_what_was_acknowledged_before() {
    let Some(mut server) = start(&[]) else { return };
    let path = server.path("f");
    let round = std::sync::atomic::AtomicU8::new(1);
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::fs::write(&path, [1; 6000]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for next in 2..=200 {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&[next; 6000], 0).unwrap();
                round.store(next, order);
            }
            done.store(true, order);
        });
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(order) {
                    let least = round.load(order);
                    let found = std::fs::read(&path).unwrap();
                    assert_eq!(found.len(), 6000);
                    assert!(found.iter().all(|byte| *byte >= least), "older than what was acknowledged");
                }
            });
        }
        while !done.load(order) {
            // The kernel forgets the file as often as it can, so that opens give it the contents again.
            assert_eq!(server.say("give-back 0"), "given");
        }
    });
}
