//! The fuzz targets of `tests/fuzz`, two at a time. Invariant: each runs for its whole time with coverage to lead it, or the
//! step fails; an input that does not hold is left in `tests/fuzz/regressions`, where an ordinary test finds it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::Cluster;
use crate::progress;

use super::Tally;

const TARGETS: [&str; 4] = ["header", "block", "marker", "slot"];
/// How long each target runs, in seconds, and in the long run.
const SECONDS: (u32, u32) = (60, 600);
/// Set for the long run.
const LONG: &str = "COFFERDAM_LONG";
/// The longest input that makes sense: the largest header region.
const LONGEST: usize = 16 * 4096;

/// Builds the targets with coverage and runs them.
pub fn run(cluster: &Cluster, tally: &mut Tally) -> Result<()> {
    let repository = &cluster.places().repository;
    let programs = build(repository)?;
    let seconds = if std::env::var_os(LONG).is_some() { SECONDS.1 } else { SECONDS.0 };
    // What an earlier run found is not needed: the corpus is what was committed.
    let scratch = cluster.places().cache.join("fuzz");
    let _ = std::fs::remove_dir_all(&scratch);
    let mut failures = Vec::new();
    for pair in TARGETS.chunks(2) {
        let running: Vec<_> =
            pair.iter().map(|target| Run::start(repository, &programs, &scratch, target, seconds)).collect();
        for run in running {
            let run = run?;
            let target = run.target;
            match run.end() {
                Ok(said) => {
                    progress::note(&format!("{target}: {said}"));
                    tally.passed += 1;
                }
                Err(error) => {
                    tally.failed += 1;
                    failures.push(format!("{target}: {error:#}"));
                }
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// The folder with the programs. The wrapper instruments the workspace's own crates, with flags of the stable compiler.
fn build(repository: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(repository)
        .env("RUSTC_WORKSPACE_WRAPPER", repository.join("tests/fuzz/instrumented-rustc"));
    cargo.args(["build", "--locked", "--package", "cofferdam-fuzz", "--features", "engine", "--bins"]);
    cargo.args(["--target-dir", "target/fuzz"]);
    ensure!(cargo.status().context("start cargo")?.success(), "the fuzz targets do not build");
    Ok(repository.join("target/fuzz/debug"))
}

/// A target that runs.
struct Run {
    target: &'static str,
    process: Child,
    log: PathBuf,
}

impl Run {
    fn start(
        repository: &Path,
        programs: &Path,
        scratch: &Path,
        target: &'static str,
        seconds: u32,
    ) -> Result<Self> {
        let kept = repository.join("tests/fuzz/regressions").join(target);
        let found = scratch.join(target);
        std::fs::create_dir_all(&kept)?;
        std::fs::create_dir_all(&found)?;
        let log = scratch.join(format!("{target}.log"));
        let mut program = Command::new(programs.join(format!("fuzz-{target}")));
        program.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
        program.arg(format!("-artifact_prefix={}/", kept.display()));
        program.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
        program.arg(found).arg(repository.join("tests/fuzz/corpus").join(target));
        program.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        let process = program.spawn().with_context(|| format!("start the fuzz target {target}"))?;
        Ok(Self { target, process, log })
    }

    /// Waits; what it did.
    fn end(mut self) -> Result<String> {
        let ended = self.process.wait()?;
        let log = std::fs::read_to_string(&self.log)?;
        if !ended.success() {
            let lines: Vec<_> = log.lines().collect();
            bail!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        let seed = log.lines().find(|line| line.contains("Seed: ")).unwrap_or_default();
        ensure!(log.contains("inline 8-bit counters"), "it ran without coverage");
        let last = log.lines().rfind(|line| line.contains(" cov: ")).context("it found no way at all")?;
        Ok(format!("{} ({})", last.trim(), seed.trim()))
    }
}
