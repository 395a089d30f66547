//! `cargo xtask bench`: what Cofferdam costs, measured side by side in one run. Invariant: a figure is written only with the
//! machine that it was measured on and the figure that it is compared with.

mod filesystem;
mod pods;
mod report;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::cluster::Cluster;
use crate::demo::kms::DevKms;
use crate::image::{self, Profile};
use crate::places::Places;
use crate::{debian, install, progress};

/// Pod starts of each kind.
const STARTS: usize = 20;

/// What is measured.
#[derive(Args, Debug)]
pub struct Options {
    /// Only this part; the other one's section of bench/RESULTS.md stays.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Alternating runs of each piece of work on the filesystem.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// A section of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What protection costs a pod, on a real cluster.
    Pods,
    /// The encrypted filesystem beside its storage, a transport without encryption, and gocryptfs.
    Filesystem,
}

/// Measures, prints the tables, and writes them to `bench/RESULTS.md`.
pub fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::from_environment()?;
    debian::ensure_packages(cluster.places())?;
    let chosen = |part| options.only.is_none_or(|only| only == part);
    if chosen(Part::Filesystem) {
        let tables = filesystem::measure(cluster.places(), options.rounds)?;
        record(cluster.places(), report::FILESYSTEM, &tables)?;
    }
    if chosen(Part::Pods) {
        record(cluster.places(), report::PODS, &pods(&cluster)?)?;
    }
    Ok(())
}

fn pods(cluster: &Cluster) -> Result<String> {
    install::everything(cluster, Profile::Release)?;
    let kms = DevKms::start(cluster)?;
    let ground = pods::Ground::prepare(cluster, &kms)?;
    let starts = progress::step(&format!("{STARTS} pod starts of each kind"), || ground.starts(STARTS))?;
    let idle = progress::step("an idle sidecar's memory", || ground.idle_memory())?;
    ground.clear()?;
    let image = image::build_programs(cluster.places(), Profile::Release)?;
    Ok(report::pods(&report::Figures {
        protected_ms: report::median(&starts.protected),
        plain_ms: report::median(&starts.plain),
        added_ms: report::median(&starts.added()),
        starts: STARTS,
        idle_kib: idle,
        image_bytes: image.size,
    }))
}

/// Puts a section into the page of results, which keeps the others.
fn record(places: &Places, heading: &str, section: &str) -> Result<()> {
    print!("{section}");
    let page = places.repository.join("bench").join("RESULTS.md");
    let before = std::fs::read_to_string(&page).unwrap_or_default();
    std::fs::write(&page, report::with_section(&before, heading, section)).context("write the results")
}
