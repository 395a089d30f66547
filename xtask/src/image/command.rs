//! `cargo xtask image …`. Invariant: every image that is built is reported with its size.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use super::Profile;
use crate::cluster::Cluster;

/// What can be done with the images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build Cofferdam's programs and all images, and import them where the cluster runs.
    Build {
        /// Only this image.
        #[arg(long)]
        only: Option<Which>,
        /// Compile optimised programs.
        #[arg(long)]
        release: bool,
    },
}

/// One of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Cofferdam's programs.
    Programs,
    /// What test applications run in.
    Apps,
}

/// Does what is asked.
pub fn run(command: &ImageCommand) -> Result<()> {
    let cluster = Cluster::from_environment()?;
    let places = cluster.places();
    let ImageCommand::Build { only, release } = command;
    let profile = if *release { Profile::Release } else { Profile::Dev };
    let mut images = Vec::new();
    if *only != Some(Which::Apps) {
        images.push(super::build_programs(places, profile)?);
    }
    if *only != Some(Which::Programs) {
        images.push(super::build_apps(places)?);
    }
    for image in &images {
        println!("{image}");
    }
    if cluster.first_process().is_ok() { super::import(&cluster, &images) } else { Ok(()) }
}
