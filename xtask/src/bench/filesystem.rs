//! The encrypted filesystem's figures. Invariant: the programs are those of a release build, and all contenders of a table were
//! measured in one run of one program, whose time is bounded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::report;
use crate::image::programs::{self, Profile};
use crate::places::Places;
use crate::{process, progress};

/// What is compiled: the programs that are measured, and the one that measures.
const PACKAGES: &[&str] = &["cofferdam-sidecar", "cofferdam-bench"];
/// Where the storage is that loses nothing by being slow.
const MEMORY: &str = "/dev/shm/cofferdam-bench";

/// How much is measured.
pub struct Amount<'a> {
    /// Alternating runs of each piece of work.
    pub rounds: usize,
    /// The share of the usual work.
    pub scale: f64,
    /// A directory on the disk that is measured on.
    pub disk: &'a Path,
}

/// Builds what is measured.
pub fn build(places: &Places) -> Result<()> {
    progress::step("building the filesystem and its benchmark", || {
        programs::compile(places, Profile::Release, PACKAGES)
    })
}

/// Beside its storage (a tmpfs), a transport without encryption, and gocryptfs.
pub fn in_memory(places: &Places, amount: &Amount<'_>) -> Result<String> {
    let table = run(places, &["run", "--storage", MEMORY, "--minutes", "12"], amount)?;
    Ok(preface(amount, "a tmpfs") + &table)
}

/// The same on a disk.
pub fn on_disk(places: &Places, amount: &Amount<'_>) -> Result<String> {
    let disk = amount.disk.display().to_string();
    fs::create_dir_all(amount.disk).with_context(|| format!("make {disk}"))?;
    let kind = report::filesystem(amount.disk);
    let table = run(places, &["run", "--storage", &disk, "--minutes", "12"], amount)?;
    Ok(preface(amount, &kind) + &table)
}

/// Other ways to serve, beside the usual one.
pub fn options(places: &Places, amount: &Amount<'_>) -> Result<String> {
    let contenders = "floor,floor-io-uring,gocryptfs,cofferdam,io-uring,writeback,threads,spin";
    let arguments = ["run", "--storage", MEMORY, "--minutes", "10", "--contenders", contenders];
    let half = Amount { scale: amount.scale / 2.0, ..*amount };
    let table = run(places, &arguments, &half)?;
    Ok(preface(&half, "a tmpfs") + "In brackets: the rate against that of gocryptfs.\n\n" + &table)
}

/// Whether the cost stays flat, and the space that files take.
pub fn growth(places: &Places, amount: &Amount<'_>) -> Result<String> {
    let table = run(places, &["growth", "--storage", MEMORY, "--minutes", "12"], amount)?;
    Ok(format!(
        "Release build, on {}, on a tmpfs. Medians of nine times 1,000 operations with cold caches, on both volumes in turn; the floor is the \
         transport without encryption.\n\n{table}",
        report::machine()
    ))
}

fn preface(amount: &Amount<'_>, storage: &str) -> String {
    let share = match amount.scale {
        1.0 => String::new(),
        share => format!(", {share} of the usual amount of work"),
    };
    format!(
        "Medians of {} alternating runs{share}, release build, on {}, on {storage}. Ratios are medians of the ratios round by round; a KMS \
         that takes 30 ms a call, Grouped wrapping; caches of the mounts are cold where files are read or looked up, those of the storage are \
         warm.\n\n",
        amount.rounds,
        report::machine()
    )
}

fn run(places: &Places, arguments: &[&str], amount: &Amount<'_>) -> Result<String> {
    let built = programs::output_folder(places, Profile::Release);
    let output: PathBuf = places.cache.join("logs").join("filesystem-bench.md");
    let mut bench = Command::new(built.join("filesystem-bench"));
    bench.args(arguments).arg("--sidecar").arg(built.join("cofferdam-sidecar"));
    bench.arg("--output").arg(&output).args(["--rounds", &amount.rounds.to_string()]);
    bench.args(["--scale", &amount.scale.to_string()]);
    process::shown(&mut bench)?;
    fs::read_to_string(output).context("read the benchmark's table")
}
