//! The cost of files in a volume of a thousand and in one of a million.
//!
//! Invariant: both volumes are timed in turn, at the same time of a machine whose speed changes; those of the storage beside them say
//! what it has of it. The directories of files that are timed were looked up before, so that each
//! operation is the same number of requests.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, statat};

use super::{REPEATED, Row, timed};
use crate::contender::Mounted;
use crate::ground::{Ground, Numbers};

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const IN_A_DIRECTORY: usize = 1_000;
/// Operations that are timed at once.
const TIMES: usize = 1_000;
/// The most that the server may have resident, in MiB.
const MEMORY: f64 = 128.0;

/// Files of one byte, a thousand in a directory, in a volume of their own.
pub struct Files<'a> {
    ground: &'a Ground<'a>,
    count: usize,
}

/// Times a volume with few and one with many files, as `whose`.
pub fn rows(whose: &str, few: &Ground<'_>, many: &Ground<'_>) -> Result<Vec<Row>> {
    let few = Files { ground: few, count: FEW };
    let many = Files { ground: many, count: many.count(MANY).max(2 * FEW) };
    few.fill()?;
    many.fill()?;
    let mut costs: [[Vec<f64>; 3]; 2] = Default::default();
    for round in 0..REPEATED {
        for (volume, costs) in [&few, &many].into_iter().zip(&mut costs) {
            costs[0].push(volume.create(round)?);
            costs[1].push(volume.stat(round)?);
            costs[2].push(volume.read(round)?);
        }
    }
    let what = ["create a file, among", "stat, of", "open and read, of"];
    let [few_costs, many_costs] = costs;
    let timed = what.into_iter().zip(few_costs).zip(many_costs);
    let row = |((what, little), much)| {
        Row::new(format!("{whose}: {what} {} and {} files", few.count, many.count), little, much)
    };
    Ok(timed.map(row).collect())
}

/// Walks the volume with many files, and says how much memory its server ever had.
pub fn walk(mount: &Mounted, ground: &Ground<'_>) -> Result<String> {
    ground.cool()?;
    eprintln!("  walking");
    let count = ground.count(MANY).max(2 * FEW);
    let begin = Instant::now();
    let mut find = Command::new("find");
    let found = find.arg(ground.at("files")).args(["-type", "f", "-size", "-9", "-printf", "."]);
    let found = found.output().context("walk")?;
    ensure!(found.stdout.len() == count, "the walk found {} files", found.stdout.len());
    let (took, memory) = (begin.elapsed().as_secs_f64(), mount.resident() as f64 / f64::from(1 << 20));
    let verdict = if memory < MEMORY { "reached" } else { "missed" };
    Ok(format!(
        "\nA walk over {count} files (`find -size`) took {took:.1} s; the most memory that the server had resident from its start on, all of this \
         included, was {memory:.1} MiB (goal < {MEMORY} MiB, {verdict}).\n"
    ))
}

impl Files<'_> {
    fn name(&self, number: usize) -> PathBuf {
        self.ground.at(&format!("files/d{}/f{}", number / IN_A_DIRECTORY, number % IN_A_DIRECTORY))
    }

    fn fill(&self) -> Result<()> {
        for number in 0..self.count {
            let path = self.name(number);
            if number % IN_A_DIRECTORY == 0 {
                fs::create_dir_all(path.parent().context("it lies in a directory")?)?;
            }
            File::create_new(path)?.write_all(b"x")?;
            if number % 100_000 == 99_999 {
                eprintln!("  {} files", number + 1);
            }
        }
        Ok(())
    }

    /// Microseconds of creating a file in a new directory; the files are gone afterwards.
    fn create(&self, round: usize) -> Result<f64> {
        let dir = self.ground.at(&format!("new{round}"));
        fs::create_dir(&dir)?;
        self.ground.cool()?;
        fs::metadata(&dir)?;
        let cost = timed(TIMES, || {
            (0..TIMES)
                .try_for_each(|number| Ok(File::create_new(dir.join(number.to_string()))?.write_all(b"x")?))
        })?;
        fs::remove_dir_all(dir)?;
        Ok(cost)
    }

    /// Microseconds of a `stat` with cold caches.
    fn stat(&self, round: usize) -> Result<f64> {
        let chosen = self.cold(round)?;
        timed(chosen.len(), || {
            chosen.iter().try_for_each(|path| {
                let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
                ensure!(stat.st_size == 1, "a file has another size");
                Ok(())
            })
        })
    }

    /// Microseconds of opening and reading a file with cold caches.
    fn read(&self, round: usize) -> Result<f64> {
        let chosen = self.cold(round)?;
        timed(chosen.len(), || {
            chosen.iter().try_for_each(|path| {
                ensure!(File::open(path)?.read(&mut [0; 8])? == 1, "a file is not as it was written");
                Ok(())
            })
        })
    }

    /// Chooses files, makes caches cold, and looks the files' directories up.
    fn cold(&self, round: usize) -> Result<Vec<PathBuf>> {
        let order = Numbers(23 + round as u64).shuffled(self.count);
        let chosen: Vec<PathBuf> = order.into_iter().take(TIMES).map(|number| self.name(number)).collect();
        self.ground.cool()?;
        let directories: BTreeSet<_> = chosen.iter().filter_map(|file| file.parent()).collect();
        directories.into_iter().try_for_each(|dir| fs::metadata(dir).map(drop))?;
        Ok(chosen)
    }
}
