//! What the encrypted filesystem costs: workloads on several mounts in turn, their medians and ratios as a table.
//!
//! Invariant: all that is compared is measured in one run, in turn, on the same storage, with cold kernel caches where the work says so;
//! nothing is compared with a figure of another run.
//!
//! `filesystem-bench run` measures, `growth` whether the cost stays flat; `filesystem-bench floor STORAGE TARGET` is the server without
//! encryption that they start.

mod contender;
mod cpu;
mod floor;
mod ground;
mod growth;
mod kms;
mod measure;
mod table;
mod uring;
mod work;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use contender::Contender;

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
    /// Measure whether the cost stays flat with a million files and a file of 100 GiB, and what files take on the storage.
    Growth(Options),
    /// Serve a directory with no encryption until it is unmounted.
    Floor {
        /// The directory.
        storage: PathBuf,
        /// Where it appears.
        target: PathBuf,
        /// Get requests by io_uring.
        #[arg(long)]
        io_uring: bool,
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
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::MAIN)]
    pub contenders: Vec<Contender>,
    /// About how long all of it may take, in minutes: there are fewer rounds where it takes longer.
    #[arg(long, default_value_t = 60.0)]
    pub minutes: f64,
    /// The share of the usual amount of work, for a quick look.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// A directory of sources that is unpacked and searched.
    #[arg(long)]
    pub sources: Option<PathBuf>,
    /// More arguments for the sidecar's `mount`.
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    pub mount_arguments: Vec<String>,
    /// Where the table goes, instead of standard output.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => tell(&options, &table::render(&measure::run(&options)?)),
        Command::Growth(options) => tell(&options, &growth::run(&options)?),
        Command::Floor { storage, target, io_uring } => floor::serve(&storage, &target, io_uring),
    }
}

fn tell(options: &Options, text: &str) -> Result<()> {
    if let Some(path) = &options.output {
        return Ok(std::fs::write(path, text)?);
    }
    print!("{text}");
    Ok(())
}
