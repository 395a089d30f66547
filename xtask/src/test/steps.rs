//! The steps of `cargo xtask test`, in their order. Invariant: each can be run alone by its name, given those marked as
//! needed before it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Step, Tally, fuzz};
use crate::cluster::{Cluster, Within, build};
use crate::image::{self, Profile};
use crate::{debian, install, openbao, process, progress, suites};

/// A package whose tests are a step of their own.
struct Package {
    name: &'static str,
    /// Where it lies; cargo's package ids name the folder.
    folder: &'static str,
}

/// The package with the story, which runs on the cluster and not with the other tests.
const STORY: Package = Package { name: "cofferdam-cluster", folder: "/tests/cluster#" };
/// The package with the suites of others, which need programs of others.
const SUITES: Package = Package { name: "cofferdam-posix", folder: "/tests/posix#" };
/// How the story is run: what mostly waits two at a time, and by themselves the tests that restart what all use.
const STORY_RUNS: [&[&str]; 2] =
    [&["--test-threads=2", "--skip", "alone::"], &["--test-threads=1", "alone::"]];

/// The step after which a cluster runs.
pub const START: &str = "cluster: start";

pub const STEPS: &[Step] = &[
    Step { name: "machine: packages", needed: true, run: packages },
    Step { name: "format", needed: false, run: format },
    Step { name: "lints", needed: false, run: lints },
    // Before the tests: those of the chart render it with the Helm that is built here.
    Step { name: "cluster: programs", needed: true, run: programs },
    Step { name: "unit and integration tests", needed: false, run: tests },
    Step { name: "filesystem: suites", needed: false, run: suites },
    Step { name: "fuzz targets", needed: false, run: fuzz::run },
    Step { name: START, needed: true, run: start },
    Step { name: "cluster: images", needed: true, run: images },
    Step { name: "cluster: chart", needed: true, run: chart },
    Step { name: "cluster: story", needed: false, run: story },
];

fn cargo(cluster: &Cluster) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&cluster.places().repository);
    cargo
}

fn packages(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    debian::ensure_packages(cluster.places())?;
    openbao::ensure(cluster.places()).map(drop)
}

fn format(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    process::shown(cargo(cluster).args(["fmt", "--all", "--check"]))
}

fn lints(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    let mut clippy = cargo(cluster);
    clippy.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    process::shown(&mut clippy)
}

fn tests(cluster: &Cluster, tally: &mut Tally) -> Result<()> {
    let mut test = cargo(cluster);
    test.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    test.args(["--exclude", STORY.name, "--exclude", SUITES.name]);
    tally.stream(&mut test)
}

fn programs(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    build::build(cluster.places()).map(drop)
}

/// A new cluster, so that nothing of an earlier run plays a part.
fn start(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    cluster.down()?;
    cluster.up()
}

fn images(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    let images = image::build_all(cluster.places(), Profile::Dev)?;
    for image in &images {
        progress::note(&image.to_string());
    }
    image::import(cluster, &images)
}

fn chart(cluster: &Cluster, _: &mut Tally) -> Result<()> {
    install::chart(cluster)
}

/// Compiles the story and runs it in the cluster's network, where Services answer.
fn story(cluster: &Cluster, tally: &mut Tally) -> Result<()> {
    let programs = test_programs(cluster, &STORY)?;
    let mut failures = Vec::new();
    for (program, arguments) in programs.iter().flat_map(|program| STORY_RUNS.map(|run| (program, run))) {
        let mut test = cluster.command(Within::Network, program)?;
        test.args(arguments).current_dir(cluster.places().repository.join("tests/cluster"));
        failures
            .extend(tally.stream(&mut test).err().map(|error| format!("{}: {error:#}", program.display())));
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// The suites of others and real programs on an encrypted mount; each prints a line with its figures.
fn suites(cluster: &Cluster, tally: &mut Tally) -> Result<()> {
    debian::ensure_packages(cluster.places())?;
    suites::ensure(cluster.places())?;
    for program in test_programs(cluster, &SUITES)? {
        let mut test = Command::new(&program);
        test.args(["--show-output", "--test-threads=2"]);
        tally.stream(test.current_dir(cluster.places().repository.join("tests/posix")))?;
    }
    Ok(())
}

fn test_programs(cluster: &Cluster, package: &Package) -> Result<Vec<PathBuf>> {
    let mut build = cargo(cluster);
    // The whole workspace, as the other tests: with this package alone its dependencies would be built again.
    build.args(["test", "--locked", "--workspace", "--no-run", "--message-format=json"]);
    let messages = process::output(&mut build)?;
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("read cargo's message")?;
        let of_package = message["package_id"].as_str().is_some_and(|id| id.contains(package.folder));
        if of_package
            && message["profile"]["test"] == true
            && let Some(program) = message["executable"].as_str()
        {
            programs.push(PathBuf::from(program));
        }
    }
    ensure!(!programs.is_empty(), "cargo built no test of {}", package.name);
    Ok(programs)
}
