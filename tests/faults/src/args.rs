//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use faults::Format;

/// Servers that tests break, and long trials.
#[derive(Debug, Parser)]
#[command(name = "cofferdam-faults")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a directory with keys in memory.
    Memory {
        /// As of the sidecar's example `memory_mount`.
        arguments: Vec<String>,
    },
    /// Serve a volume as a sidecar does, with a sweep after each rotation, until standard input ends.
    Volume {
        /// The raw volume.
        backing: PathBuf,
        /// Where it is mounted.
        target: PathBuf,
        /// The KMS.
        profile: PathBuf,
    },
    /// `cofferdam-sidecar`.
    Sidecar {
        /// Its command line.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Cut the power of a disk under a load, again and again.
    Power(PowerArgs),
    /// Write the volumes of the format's vectors into a folder that does not have them yet.
    WriteVectors {
        /// `tests/vectors/v1/volumes`
        folder: PathBuf,
    },
}

/// A trial of power cuts.
#[derive(Args, Debug)]
pub struct PowerArgs {
    /// The storage.
    #[arg(long)]
    pub storage: Format,
    /// What serves on it.
    #[arg(long, default_value = "memory")]
    pub served: Served,
    /// How often.
    #[arg(long, default_value_t = 200)]
    pub rounds: u32,
    /// A fresh disk for each round, so that what a round broke is not found by the next one too.
    #[arg(long)]
    pub fresh: bool,
    /// For the same choices as another trial.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// What is tried.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Served {
    /// Ours, with keys in memory.
    Memory,
    /// The same, on a strict volume with virtual ownership.
    Strict,
    /// Ours, with a KMS.
    Volume,
    /// gocryptfs.
    Gocryptfs,
    /// The storage itself.
    Storage,
}
