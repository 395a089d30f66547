//! Whether the cost of an operation stays as it is when there are more files, and larger ones. Invariant: the same operations are timed
//! on the same mount, before and after it grew.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, statat};

use crate::contender::Mounted;
use crate::ground::{Ground, Numbers};

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const IN_A_DIRECTORY: usize = 1_000;
/// Operations that are timed.
const TIMES: usize = 1_000;
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 100 << 30;

/// What was measured on one mount.
pub struct Growth {
    /// What is compared, and microseconds of an operation with little and with much.
    pub rows: Vec<(&'static str, f64, f64)>,
    /// Seconds of a walk over all files, and the most memory that the server ever had resident, in bytes.
    pub walk: (f64, u64),
    pub files: usize,
    /// Bytes on the storage for a file with one byte.
    pub space: u64,
}

/// Grows a mount and times it.
pub fn measure(mount: &Mounted, ground: &Ground<'_>) -> Result<Growth> {
    let base = ground.at("growth");
    let many = ground.count(MANY);
    let few_cost = with_files(ground, &base.join("few"), FEW)?;
    let many_cost = with_files(ground, &base.join("many"), many)?;
    ground.cool()?;
    let begin = Instant::now();
    let mut find = Command::new("find");
    let found =
        find.arg(&base).args(["-type", "f", "-size", "-9", "-printf", "."]).output().context("walk")?;
    ensure!(found.stdout.len() == FEW + many, "the walk found {} files", found.stdout.len());
    let walk = (begin.elapsed().as_secs_f64(), mount.resident());
    let space = fs::metadata(name(&base.join("few"), 0)).context("look at a file")?;
    let space = std::os::unix::fs::MetadataExt::blocks(&space) * 512;
    let (small, large) = (sparse(&base.join("small"), SMALL)?, sparse(&base.join("large"), LARGE)?);
    fs::remove_dir_all(&base)?;
    let rows = vec![
        ("create, 1,000 files and 1,000,000", few_cost.create, many_cost.create),
        ("stat, of 1,000 files and of 1,000,000", few_cost.stat, many_cost.stat),
        ("open and read, of 1,000 files and of 1,000,000", few_cost.read, many_cost.read),
        ("read 4 KiB at random, of 1 MiB and of 100 GiB", small.0, large.0),
        ("write 4 KiB at random, to 1 MiB and to 100 GiB", small.1, large.1),
    ];
    Ok(Growth { rows, walk, files: FEW + many, space })
}

/// Microseconds of an operation.
struct Cost {
    create: f64,
    stat: f64,
    read: f64,
}

fn name(base: &Path, number: usize) -> PathBuf {
    base.join(format!("d{}/f{}", number / IN_A_DIRECTORY, number % IN_A_DIRECTORY))
}

/// Times `work` for each of `count` things; microseconds for one.
fn timed(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / count as f64)
}

fn with_files(ground: &Ground<'_>, base: &Path, count: usize) -> Result<Cost> {
    let create = timed(count, || {
        for number in 0..count {
            let path = name(base, number);
            if number % IN_A_DIRECTORY == 0 {
                fs::create_dir_all(path.parent().context("it lies in a directory")?)?;
            }
            File::create_new(path)?.write_all(b"x")?;
        }
        Ok(())
    })?;
    let chosen: Vec<PathBuf> =
        Numbers(23).shuffled(count).into_iter().take(TIMES).map(|number| name(base, number)).collect();
    ground.cool()?;
    let stat = timed(chosen.len(), || {
        chosen.iter().try_for_each(|path| {
            let stat = statat(rustix::fs::CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            ensure!(stat.st_size == 1, "a file has another size");
            Ok(())
        })
    })?;
    ground.cool()?;
    let read = timed(chosen.len(), || {
        chosen.iter().try_for_each(|path| {
            ensure!(File::open(path)?.read(&mut [0; 8])? == 1, "a file is not as it was written");
            Ok(())
        })
    })?;
    Ok(Cost { create, stat, read })
}

/// Microseconds of a read and of a write of 4 KiB at random in a sparse file of `size` bytes.
fn sparse(path: &Path, size: u64) -> Result<(f64, f64)> {
    let mut numbers = Numbers(29);
    let places: Vec<u64> = (0..TIMES).map(|_| numbers.next() % (size / 4096) * 4096).collect();
    let data = numbers.bytes(4096);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size)?;
    let write = timed(TIMES, || Ok(places.iter().try_for_each(|place| file.write_all_at(&data, *place))?))?;
    drop(file);
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop the kernel's caches")?;
    let file = File::open(path)?;
    rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
    let mut buffer = [0; 4096];
    let read = timed(TIMES, || {
        places.iter().try_for_each(|place| {
            file.read_exact_at(&mut buffer, *place)?;
            ensure!(buffer[..] == data[..], "a block is not as it was written");
            Ok(())
        })
    })?;
    Ok((read, write))
}

/// The figures as Markdown.
pub fn render(growth: &Growth) -> String {
    let mut text = "\n| microseconds of an operation | little | much | |\n|---|---:|---:|---:|\n".to_owned();
    for (what, little, much) in &growth.rows {
        text += &format!("| {what} | {little:.1} | {much:.1} | {:.2} |\n", much / little);
    }
    text += &format!(
        "\nA walk over {} files took {:.1} s; the server's memory was {:.1} MiB at most (goal ≤ 128), from its start on. A file with one byte takes {} bytes.\n",
        growth.files,
        growth.walk.0,
        growth.walk.1 as f64 / f64::from(1 << 20),
        growth.space
    );
    text
}
