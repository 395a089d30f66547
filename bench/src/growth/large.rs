//! The cost of blocks in files of 1 MiB and of 100 GiB.
//!
//! Invariant: both are written and read at as many places, none of them twice.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::Advice;

use super::{REPEATED, Row, timed};
use crate::ground::{Ground, Numbers};

const SMALL: u64 = 1 << 20;
const LARGE: u64 = 100 << 30;

/// Times both.
pub fn rows(ground: &Ground<'_>) -> Result<Vec<Row>> {
    eprintln!("  files of 1 MiB and of 100 GiB");
    let (small, large) = (sparse(&ground.at("one"), SMALL)?, sparse(&ground.at("two"), LARGE)?);
    let all = |what: &str| format!("{what} 4 KiB at random, of 1 MiB and of 100 GiB (sparse)");
    Ok(vec![Row::new(all("write"), small.0, large.0), Row::new(all("read"), small.1, large.1)])
}

/// Microseconds of a write and of a read of 4 KiB at random in a sparse file of `size` bytes.
fn sparse(path: &Path, size: u64) -> Result<(Vec<f64>, Vec<f64>)> {
    let data = Numbers(31).bytes(4096);
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size)?;
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for round in 0..REPEATED {
        let places = places(round as u64, size / 4096);
        writes.push(timed(places.len(), || {
            Ok(places.iter().try_for_each(|place| file.write_all_at(&data, *place))?)
        })?);
        drop(file);
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the kernel's caches")?;
        file = File::options().read(true).write(true).open(path)?;
        rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
        let mut buffer = [0; 4096];
        reads.push(timed(places.len(), || {
            places.iter().try_for_each(|place| {
                file.read_exact_at(&mut buffer, *place)?;
                ensure!(buffer[..] == data[..], "a block is not as it was written");
                Ok(())
            })
        })?);
    }
    Ok((writes, reads))
}

/// Offsets of pages in no order, none of them twice, because the kernel would not ask for it again: so many of `pages` as a small
/// file has.
fn places(seed: u64, pages: u64) -> Vec<u64> {
    let mut numbers = Numbers(29 + seed);
    let (count, step) = (SMALL / 4096, pages / (SMALL / 4096));
    let order = numbers.shuffled(count as usize);
    order.into_iter().map(|piece| (piece as u64 * step + numbers.next() % step) * 4096).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_all_over_a_file_and_none_of_them_twice() {
        for pages in [SMALL / 4096, LARGE / 4096] {
            let mut places = places(3, pages);
            places.sort_unstable();
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(places.len() == 256 && places[0] < pages * 64 && places[255] >= pages * 4032);
        }
    }
}
