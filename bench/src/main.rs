//! What the encrypted filesystem costs: workloads on four mounts in turn, their medians and ratios as a table.
//!
//! Invariant: all that is compared is measured in one run, in turn, on the same storage, with cold kernel caches where the work says so;
//! nothing is compared with a figure of another run.
//!
//! `filesystem-bench run` measures; `filesystem-bench floor STORAGE TARGET` is the server without encryption that it starts.

mod contender;
mod cpu;
mod floor;
mod ground;
mod growth;
mod kms;
mod measure;
mod table;
mod work;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "filesystem-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print the table.
    Run(Options),
    /// Serve a directory with no encryption until it is unmounted.
    Floor {
        /// The directory.
        storage: PathBuf,
        /// Where it appears.
        target: PathBuf,
    },
}

/// What is measured, and on what.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// The program `cofferdam-sidecar` of a release build.
    #[arg(long)]
    pub sidecar: PathBuf,
    /// A directory on the storage that is measured on; made, and emptied at the end.
    #[arg(long, default_value = "/dev/shm/cofferdam-bench")]
    pub storage: PathBuf,
    /// Alternating runs of each piece of work.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Only the work whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only these contenders.
    #[arg(long, value_delimiter = ',')]
    pub contenders: Vec<String>,
    /// The share of the usual amount of work, for a quick look.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Also measure whether the cost stays flat with a million files and a file of 100 GiB.
    #[arg(long)]
    pub growth: bool,
    /// A directory of sources that is unpacked and searched.
    #[arg(long)]
    pub sources: Option<PathBuf>,
    /// More arguments for the sidecar's `mount`.
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    pub mount_arguments: Vec<String>,
    /// Where the table goes, besides standard output.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => {
            let (figures, growth) = measure::run(&options)?;
            let mut text = table::render(&figures);
            text.extend(growth.as_ref().map(growth::render));
            print!("{text}");
            if let Some(path) = options.output {
                std::fs::write(path, text)?;
            }
            Ok(())
        }
        Command::Floor { storage, target } => floor::serve(&storage, &target),
    }
}
