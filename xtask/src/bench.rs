//! `cargo xtask bench`: what Cofferdam costs, measured side by side in one run. Invariant: a figure is written only with the
//! machine that it was measured on and the figure that it is compared with.

mod filesystem;
mod pods;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use filesystem::Amount;

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
    /// Only these parts; the sections of the others in bench/RESULTS.md stay.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Alternating runs of each piece of work on the filesystem.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The share of the usual amount of work, for a quick look that is printed and not recorded.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// A directory on the disk that is measured on; made, and emptied. Users that are not root must be able to reach it.
    #[arg(long, default_value = "/var/tmp/cofferdam-bench")]
    disk: PathBuf,
}

/// A section of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The encrypted filesystem on a tmpfs, beside its storage, a transport without encryption, and gocryptfs.
    Memory,
    /// Other ways to serve: io_uring, the writeback cache, more threads.
    Options,
    /// Whether the cost stays flat with a million files and a file of 100 GiB, and the space that files take.
    Growth,
    /// As memory, on a disk.
    Disk,
    /// What protection costs a pod, on a real cluster.
    Pods,
}

impl Part {
    /// In the order in which they are measured and stand in the page.
    const ALL: [Self; 5] = [Self::Memory, Self::Options, Self::Growth, Self::Disk, Self::Pods];

    fn heading(self) -> &'static str {
        match self {
            Self::Memory => report::MEMORY,
            Self::Options => report::OPTIONS,
            Self::Growth => report::GROWTH,
            Self::Disk => report::DISK,
            Self::Pods => report::PODS,
        }
    }
}

/// Measures, prints the tables, and writes them to `bench/RESULTS.md`, section by section.
pub fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::from_environment()?;
    debian::ensure_packages(cluster.places())?;
    let chosen: Vec<Part> =
        Part::ALL.into_iter().filter(|part| options.only.is_empty() || options.only.contains(part)).collect();
    if chosen.iter().any(|part| *part != Part::Pods) {
        filesystem::build(cluster.places())?;
    }
    for part in chosen {
        progress::note(&format!("{}; the machine's load is {}", part.heading(), report::load()));
        let section = measure(part, &cluster, options)?;
        print!("{section}");
        if options.scale >= 1.0 {
            record(cluster.places(), part.heading(), &section)?;
        }
    }
    Ok(())
}

fn measure(part: Part, cluster: &Cluster, options: &Options) -> Result<String> {
    let places = cluster.places();
    let amount = Amount { rounds: options.rounds, scale: options.scale, disk: &options.disk };
    match part {
        Part::Memory => filesystem::in_memory(places, &amount),
        Part::Options => filesystem::options(places, &amount),
        Part::Growth => filesystem::growth(places, &amount),
        Part::Disk => filesystem::on_disk(places, &amount),
        Part::Pods => pods(cluster),
    }
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
    let page = places.repository.join("bench").join("RESULTS.md");
    let before = std::fs::read_to_string(&page).unwrap_or_default();
    std::fs::write(&page, report::with_section(&before, heading, section)).context("write the results")
}
