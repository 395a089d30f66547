//! Whether the cost of an operation stays as it is when there are more files, and larger ones; and what files take on the storage.
//!
//! Invariant: the same operations are timed on the same mount, before and after it grew; the directories of files that are timed were
//! looked up before, so that each operation is the same number of requests.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, AtFlags, CWD, statat};

use crate::Options;
use crate::contender::{Contender, Mounted};
use crate::ground::{Ground, Numbers};
use crate::measure::{with_mounts, within};
use crate::table::median;

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const IN_A_DIRECTORY: usize = 1_000;
/// Files that are created while it is timed.
const CREATED: usize = 5_000;
/// Operations that are timed at once.
const TIMES: usize = 1_000;
/// How often; the median counts.
const REPEATED: usize = 5;
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 100 << 30;
/// The most that the larger one may cost of the smaller one to be called flat.
const FLAT: f64 = 1.25;
/// The most that the server may have resident, in MiB.
const MEMORY: f64 = 128.0;
/// Sizes of files whose place on the storage is shown, and how it is said.
const SIZES: [(usize, &str); 5] =
    [(0, "0"), (1, "1 B"), (4048, "4048 B"), (4096, "4 KiB"), (65_536, "64 KiB")];

/// Grows a mount of Cofferdam, and says what came out, as Markdown.
pub fn run(options: &Options) -> Result<String> {
    let options = Options { contenders: vec![Contender::Cofferdam], ..options.clone() };
    let limit = Duration::from_secs_f64(options.minutes * 60.0);
    with_mounts(&options, |mounts, grounds| {
        let (mount, ground) = mounts.iter().zip(grounds).next().context("mount")?;
        within(limit, mount.server(), || {
            Ok(many_files(mount, ground)? + &large_files(ground)? + &space(ground)?)
        })
    })
}

fn many_files(mount: &Mounted, ground: &Ground<'_>) -> Result<String> {
    let base = ground.at("growth");
    let (few, many) = (Files { base: base.join("few") }, Files { base: base.join("many") });
    let count = ground.count(MANY).max(2 * CREATED);
    few.create(0..FEW)?;
    let little = few.costs(ground, FEW)?;
    let first = many.create(0..CREATED)?;
    many.create(CREATED..count - CREATED)?;
    let last = many.create(count - CREATED..count)?;
    let much = many.costs(ground, count)?;
    let text = table(&[
        (format!("create a file, among {FEW} and among {count}"), first, last),
        (format!("stat, of {FEW} and of {count}"), little.0, much.0),
        (format!("open and read, of {FEW} and of {count}"), little.1, much.1),
    ]);
    ground.cool()?;
    eprintln!("  walking");
    let begin = Instant::now();
    let mut find = Command::new("find");
    let found =
        find.arg(&base).args(["-type", "f", "-size", "-9", "-printf", "."]).output().context("walk")?;
    ensure!(found.stdout.len() == FEW + count, "the walk found {} files", found.stdout.len());
    let (took, memory) = (begin.elapsed().as_secs_f64(), mount.resident() as f64 / f64::from(1 << 20));
    let verdict = if memory < MEMORY { "reached" } else { "missed" };
    Ok(text
        + &format!(
            "\nA walk over {} files (`find -size`) took {took:.1} s; the most memory that the server had resident from its start on, all of this \
             included, was {memory:.1} MiB (goal < {MEMORY} MiB, {verdict}).\n",
            FEW + count
        ))
}

fn large_files(ground: &Ground<'_>) -> Result<String> {
    eprintln!("  files of 1 MiB and of 100 GiB");
    let (small, large) = (sparse(&ground.at("one"), SMALL)?, sparse(&ground.at("two"), LARGE)?);
    let all = |what: &str| format!("{what} 4 KiB at random, of 1 MiB and of 100 GiB (sparse)");
    Ok("\n".to_owned() + &table(&[(all("write"), small.0, large.0), (all("read"), small.1, large.1)]))
}

/// What was timed: microseconds of an operation with little and with much.
fn table(rows: &[(String, f64, f64)]) -> String {
    let mut text = "| microseconds of an operation | little | much | |\n|---|---:|---:|---|\n".to_owned();
    for (what, little, much) in rows {
        let verdict = if much / little <= FLAT { "flat" } else { "**not flat**" };
        text += &format!("| {what} | {little:.1} | {much:.1} | {:.2}, {verdict} |\n", much / little);
    }
    text
}

/// Times `work` for each of `count` things; microseconds for one.
fn timed(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// Files of one byte, a thousand in a directory.
struct Files {
    base: PathBuf,
}

impl Files {
    fn name(&self, number: usize) -> PathBuf {
        self.base.join(format!("d{}/f{}", number / IN_A_DIRECTORY, number % IN_A_DIRECTORY))
    }

    /// Creates files; microseconds for one.
    fn create(&self, numbers: std::ops::Range<usize>) -> Result<f64> {
        timed(numbers.len(), || {
            for number in numbers {
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
        })
    }

    /// Microseconds of a `stat`, and of opening and reading, of some of the `count` files with cold caches.
    fn costs(&self, ground: &Ground<'_>, count: usize) -> Result<(f64, f64)> {
        let (mut stats, mut reads) = (Vec::new(), Vec::new());
        for round in 0..REPEATED {
            let order = Numbers(23 + round as u64).shuffled(count);
            let chosen: Vec<PathBuf> =
                order.into_iter().take(TIMES).map(|number| self.name(number)).collect();
            cold(ground, &chosen)?;
            stats.push(timed(chosen.len(), || {
                chosen.iter().try_for_each(|path| {
                    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
                    ensure!(stat.st_size == 1, "a file has another size");
                    Ok(())
                })
            })?);
            cold(ground, &chosen)?;
            reads.push(timed(chosen.len(), || {
                chosen.iter().try_for_each(|path| {
                    ensure!(File::open(path)?.read(&mut [0; 8])? == 1, "a file is not as it was written");
                    Ok(())
                })
            })?);
        }
        Ok((median(stats), median(reads)))
    }
}

/// Makes caches cold, and looks the directories of `files` up.
fn cold(ground: &Ground<'_>, files: &[PathBuf]) -> Result<()> {
    ground.cool()?;
    let directories: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
    directories.into_iter().try_for_each(|dir| Ok(fs::metadata(dir).map(drop)?))
}

/// Microseconds of a write and of a read of 4 KiB at random in a sparse file of `size` bytes.
fn sparse(path: &Path, size: u64) -> Result<(f64, f64)> {
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
    Ok((median(writes), median(reads)))
}

/// Offsets of pages in no order, none of them twice, because the kernel would not ask for it again: so many of `pages` as a small
/// file has.
fn places(seed: u64, pages: u64) -> Vec<u64> {
    let mut numbers = Numbers(29 + seed);
    let (count, step) = (SMALL / 4096, pages / (SMALL / 4096));
    let order = numbers.shuffled(count as usize);
    order.into_iter().map(|piece| (piece as u64 * step + numbers.next() % step) * 4096).collect()
}

/// What files of some sizes take on the storage, as it counts itself.
fn space(ground: &Ground<'_>) -> Result<String> {
    let mut text = "\n| size of a file | on the storage, bytes |\n|---|---:|\n".to_owned();
    for (size, name) in SIZES {
        let path = ground.at("size");
        fs::write(&path, Numbers(37).bytes(size))?;
        rustix::fs::sync();
        text += &format!("| {name} | {} |\n", fs::metadata(&path)?.blocks() * 512);
        fs::remove_file(&path)?;
    }
    Ok(text)
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

    #[test]
    fn a_cost_that_grows_is_called_so() {
        let text = table(&[("a".into(), 10.0, 12.0), ("b".into(), 10.0, 13.0)]);
        assert!(
            text.contains("| a | 10.0 | 12.0 | 1.20, flat |") && text.contains("1.30, **not flat**"),
            "{text}"
        );
    }
}
