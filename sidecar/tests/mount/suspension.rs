//! Suspension as applications meet it: errors, pages that are gone, and nothing lost.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::server::{pattern, start};

/// The environment variable with the path of a file to be mapped.
pub const MAP: &str = "COFFERDAM_TEST_MAP";

/// Runs `with` on a shared mapping of a file's first `len` bytes.
pub fn with_mapping<T>(file: &File, len: usize, with: impl FnOnce(&mut [u8]) -> T) -> T {
    let size = std::num::NonZeroUsize::new(len).unwrap();
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping of its own, of a file that is at least as long; it is unmapped below and not used after.
    let map = unsafe { mmap(None, size, rights, MapFlags::MAP_SHARED, file, 0) }.unwrap();
    // SAFETY: the mapping is `len` readable and writable bytes, and nothing else in this process refers to them.
    let result = with(unsafe { std::slice::from_raw_parts_mut(map.as_ptr().cast(), len) });
    // SAFETY: mapped above, and the slice is gone.
    unsafe { munmap(map, len) }.unwrap();
    result
}

/// The process with a mapping: writes to it when it is told to, and touches it.
pub fn map_and_obey(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len() as usize;
    with_mapping(&file, len, |map| {
        println!("mapped {}", map[0]);
        for line in std::io::stdin().lock().lines() {
            match line.unwrap().as_str() {
                "write" => map[len - 1] = b'!',
                // The read must really be one of memory.
                // SAFETY: a valid reference.
                _ => println!("touched {}", unsafe { std::ptr::read_volatile(&raw const map[0]) }),
            }
            println!("done");
        }
    });
}

#[test]
fn cached_and_mapped_pages_are_gone_and_a_change_in_a_mapping_is_not() {
    let Some(mut server) = start(&[]) else { return };
    let contents = pattern(1, 300_000);
    std::fs::write(server.path("cached"), &contents).unwrap();
    std::fs::write(server.path("mapped"), &contents).unwrap();
    let cached = OpenOptions::new().read(true).write(true).open(server.path("cached")).unwrap();
    let mut all = vec![0; contents.len()];
    cached.read_exact_at(&mut all, 0).unwrap();
    let mut mapper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "map_a_file", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(MAP, server.path("mapped"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = mapper.stdin.take().unwrap();
    let mut output = BufReader::new(mapper.stdout.take().unwrap());
    let mut wait_for = |word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the mapping process ended");
        }
    };
    wait_for("mapped");
    writeln!(input, "write").unwrap();
    wait_for("done");

    let said = server.say("suspend");
    assert!(said.contains("forgotten: true, quiet: true, synced: true, wiped: true"), "{said}");
    let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOKEY), "{error}");
    refused(cached.read_exact_at(&mut all, 0).unwrap_err());
    refused(cached.read_at(&mut [0; 1], 299_000).unwrap_err());
    refused(cached.write_at(b"x", 0).unwrap_err());
    refused(File::open(server.path("cached")).unwrap_err());
    refused(File::create(server.path("new")).unwrap_err());
    assert_eq!(std::fs::metadata(server.path("cached")).unwrap().len(), 300_000);
    assert!(std::fs::read_dir(server.path("")).unwrap().count() >= 2);
    writeln!(input, "touch").unwrap();
    assert_eq!(mapper.wait().unwrap().signal(), Some(libc::SIGBUS));

    assert_eq!(server.say("resume"), "resumed");
    cached.read_exact_at(&mut all, 0).unwrap();
    assert!(all == contents);
    cached.write_all_at(b"x", 0).unwrap();
    let mapped = std::fs::read(server.path("mapped")).unwrap();
    assert!(mapped[..299_999] == contents[..299_999] && mapped[299_999] == b'!');
}

#[test]
fn writers_that_go_on_over_many_suspensions_lose_no_acknowledged_byte() {
    let Some(mut server) = start(&[]) else { return };
    let path = server.path("log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
        let writer = scope.spawn(move || {
            let (mut written, mut refused) = (0_u32, 0_u32);
            let mut rest = Vec::new();
            while !stopped() || !rest.is_empty() {
                if rest.is_empty() {
                    rest = format!("{written:06}\n").into_bytes();
                }
                // The kernel may split a write at a page's end, and a suspension may come between: what was taken counts.
                match file.write(&rest) {
                    Ok(taken) => {
                        rest.drain(..taken);
                        written += u32::from(rest.is_empty());
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::ENOKEY));
                        refused += 1;
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                }
            }
            assert!(refused > 0, "no write met a suspension");
            written
        });
        for _ in 0..10 {
            server.say("suspend");
            std::thread::sleep(std::time::Duration::from_millis(20));
            server.say("resume");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap()
    });
    server.restart();
    let log = std::fs::read_to_string(&path).unwrap();
    let numbers: Vec<u32> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..written).collect::<Vec<_>>());
}
