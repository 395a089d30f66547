//! `cargo xtask`: everything that is done with the project by hand or by CI. Invariant: a command that returns 0 did all
//! of what it says.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::cluster::command::ClusterCommand;
use xtask::image::command::ImageCommand;
use xtask::mounts::MountsCommand;
use xtask::{bench, cluster, demo, generate, image, mounts, test};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set everything up on a real cluster and show the main job; the cluster stays up.
    Demo,
    /// Write every generated file.
    Generate,
    /// Measure what Cofferdam costs, side by side, and write bench/RESULTS.md.
    Bench(bench::Options),
    /// Check and test everything, on a real cluster too.
    Test(test::Options),
    /// The real one-node Kubernetes of the tests and the demo.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Container images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Encrypted mounts on this machine by mount(8): for the test suites of others, and for trying out.
    #[command(subcommand)]
    Mounts(MountsCommand),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo => demo::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Generate => generate::run(),
        Command::Test(options) => test::run(&options),
        Command::Cluster(command) => cluster::command::run(command),
        Command::Image(command) => image::command::run(&command),
        Command::Mounts(command) => mounts::run(&command),
    }
}
