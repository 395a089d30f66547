//! The encrypted filesystem's figures. Invariant: the programs are those of a release build, and all contenders of a table were
//! measured in one run of one program.

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

/// The section of the results.
pub fn measure(places: &Places, rounds: usize) -> Result<String> {
    progress::step("building the filesystem and its benchmark", || {
        programs::compile(places, Profile::Release, PACKAGES)
    })?;
    let on_disk = places.cache.join("bench-storage");
    let mut text = format!(
        "Medians of {rounds} alternating runs, release build, on {}. Ratios are medians of the ratios round by round; a KMS that takes 30 ms a \
         call, Grouped wrapping; caches of the mounts are cold where files are read or looked up.\n\n",
        report::machine()
    );
    for (title, storage, more) in [
        ("On tmpfs", Path::new("/dev/shm/cofferdam-bench"), &["--growth"][..]),
        ("On this machine's disk", &on_disk, &[]),
    ] {
        let table = run(places, storage, rounds, more)?;
        text += &format!("### {title}\n\n{table}\n");
    }
    Ok(text)
}

fn run(places: &Places, storage: &Path, rounds: usize, more: &[&str]) -> Result<String> {
    let built = programs::output_folder(places, Profile::Release);
    let output: PathBuf = places.cache.join("logs").join("filesystem-bench.md");
    let mut bench = Command::new(built.join("filesystem-bench"));
    bench.arg("run").arg("--sidecar").arg(built.join("cofferdam-sidecar"));
    bench.arg("--storage").arg(storage).arg("--output").arg(&output);
    bench.args(["--rounds", &rounds.to_string()]).args(more);
    process::shown(&mut bench)?;
    fs::read_to_string(output).context("read the benchmark's table")
}
