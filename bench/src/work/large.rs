//! Work on one large file. Invariant: it lies at `large`; blocks of it were sealed in as many sessions as the work says.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use anyhow::Result;
use rustix::fs::Advice;

use super::Done;
use crate::ground::{Ground, Numbers};

const MIB: usize = 1 << 20;
/// MiB of the file that is read and written from end to end.
const LONG: usize = 1024;
/// MiB of the file that is read and written at random.
const WIDE: usize = 256;
/// KiB of it that are written by one open, so that each such piece has a nonce prefix of its own.
const PIECE: usize = 64 << 10;
/// Reads and writes at random.
const TIMES: usize = 30_000;

pub fn remove(ground: &Ground<'_>) -> Result<()> {
    match fs::remove_file(ground.at("large")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub fn write(ground: &Ground<'_>) -> Result<Done> {
    let data = Numbers(7).bytes(MIB);
    let mut file = File::create(ground.at("large"))?;
    let count = ground.count(LONG);
    for _ in 0..count {
        file.write_all(&data)?;
    }
    drop(file);
    Ok(Done::Amount((count * MIB) as f64 / 1e6))
}

pub fn make(ground: &Ground<'_>) -> Result<()> {
    if !ground.at("large").exists() {
        write(ground)?;
    }
    Ok(())
}

pub fn read(ground: &Ground<'_>) -> Result<Done> {
    let mut buffer = vec![0; MIB];
    let mut file = File::open(ground.at("large"))?;
    let mut total = 0;
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok(Done::Amount(total as f64 / 1e6));
        }
        total += len;
    }
}

pub fn make_in_pieces(ground: &Ground<'_>) -> Result<()> {
    if ground.at("large").exists() {
        return Ok(());
    }
    let mut numbers = Numbers(11);
    let data = numbers.bytes(PIECE);
    let pieces = ground.count(WIDE) * MIB / PIECE;
    File::create(ground.at("large"))?.set_len((pieces * PIECE) as u64)?;
    for piece in numbers.shuffled(pieces) {
        let file = File::options().write(true).open(ground.at("large"))?;
        file.write_all_at(&data, (piece * PIECE) as u64)?;
    }
    Ok(())
}

pub fn read_at_random(ground: &Ground<'_>) -> Result<Done> {
    let file = File::open(ground.at("large"))?;
    rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
    let mut buffer = [0; 4096];
    let places = places(&file, ground)?;
    for place in &places {
        file.read_exact_at(&mut buffer, *place)?;
    }
    Ok(Done::Amount(places.len() as f64))
}

pub fn write_at_random(ground: &Ground<'_>) -> Result<Done> {
    let file = File::options().write(true).open(ground.at("large"))?;
    let data = Numbers(13).bytes(4096);
    let places = places(&file, ground)?;
    for place in &places {
        file.write_all_at(&data, *place)?;
    }
    Ok(Done::Amount(places.len() as f64))
}

/// Offsets of pages, in no order, none of them twice.
fn places(file: &File, ground: &Ground<'_>) -> Result<Vec<u64>> {
    let pages = (file.metadata()?.len() / 4096) as usize;
    let order = Numbers(17).shuffled(pages);
    Ok(order.into_iter().take(ground.count(TIMES)).map(|page| page as u64 * 4096).collect())
}
