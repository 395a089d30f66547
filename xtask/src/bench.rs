//! `cargo xtask bench`: what Cofferdam costs, measured side by side in one run. Invariant: a figure is written only with the
//! machine that it was measured on and the figure that it is compared with.

mod pods;
mod report;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::demo::kms::DevKms;
use crate::image::{self, Profile};
use crate::{install, progress};

/// Pod starts of each kind.
const STARTS: usize = 20;

/// Measures, prints the table, and writes it to `bench/RESULTS.md`.
pub fn run() -> Result<()> {
    let cluster = Cluster::from_environment()?;
    install::everything(&cluster, Profile::Release)?;
    let kms = DevKms::start(&cluster)?;
    let ground = pods::Ground::prepare(&cluster, &kms)?;
    let starts = progress::step(&format!("{STARTS} pod starts of each kind"), || ground.starts(STARTS))?;
    let idle = progress::step("an idle sidecar's memory", || ground.idle_memory())?;
    ground.clear()?;
    let image = image::build_programs(cluster.places(), Profile::Release)?;
    let text = report::render(&report::Figures {
        protected_ms: report::median(&starts.protected),
        plain_ms: report::median(&starts.plain),
        added_ms: report::median(&starts.added()),
        starts: STARTS,
        idle_kib: idle,
        image_bytes: image.size,
    });
    print!("{text}");
    let folder = cluster.places().repository.join("bench");
    std::fs::create_dir_all(&folder).context("make the folder for results")?;
    std::fs::write(folder.join("RESULTS.md"), text).context("write the results")
}
