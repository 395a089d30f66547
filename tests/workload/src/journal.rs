//! Fixed-size numbered records, appended with fsync and read back through the one descriptor and through a fresh one.
//!
//! Invariant: a failed record is tried again with the same number, so the file never has a gap.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::{errno_name, event, now};

/// Not a divisor of the block size, so that records cross the edges of blocks.
const RECORD: usize = 100;

fn record(number: u64) -> [u8; RECORD] {
    let mut bytes = [b'.'; RECORD];
    bytes[..20].copy_from_slice(format!("{number:019}:").as_bytes());
    bytes[RECORD - 1] = b'\n';
    bytes
}

pub fn run(path: &Path, every_ms: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut next = file.metadata()?.len() / RECORD as u64;
    event(&json!({"at": now(), "event": "begin", "next": next, "pid": std::process::id()}));
    let mut last = String::new();
    loop {
        let outcome = match step(&file, path, next) {
            Ok(()) => "ok".to_owned(),
            Err((operation, error)) => format!("{operation}: {}", errno_name(&error)),
        };
        if outcome == "ok" {
            next += 1;
        }
        if outcome != last || next.is_multiple_of(10) {
            event(&json!({"at": now(), "event": outcome, "acknowledged": next}));
        }
        last = outcome;
        sleep(Duration::from_millis(every_ms));
    }
}

fn step(file: &File, path: &Path, number: u64) -> Result<(), (&'static str, io::Error)> {
    file.write_all_at(&record(number), number * RECORD as u64).map_err(|e| ("write", e))?;
    file.sync_data().map_err(|e| ("fsync", e))?;
    let earlier = number.wrapping_mul(2_654_435_761) % (number + 1);
    let mut bytes = [0; RECORD];
    file.read_exact_at(&mut bytes, earlier * RECORD as u64).map_err(|e| ("read", e))?;
    if bytes != record(earlier) {
        return Err(("read", io::Error::other("wrong bytes")));
    }
    File::open(path).map_err(|e| ("open", e)).map(drop)
}

pub fn check(path: &Path, at_least: u64) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).context("read the journal")?;
    let whole = bytes.len() / RECORD;
    for (number, chunk) in bytes.chunks_exact(RECORD).enumerate() {
        ensure!(chunk == record(number as u64), "record {number} is not what was written");
    }
    ensure!(whole as u64 >= at_least, "{whole} records, but {at_least} were acknowledged");
    event(&json!({"records": whole}));
    Ok(())
}
