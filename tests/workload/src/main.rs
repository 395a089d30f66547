//! An application for the story tests. It uses plain system calls on the directory that it is given, prints one JSON line
//! for each event, and never stops on an error: what the tests ask is what an application saw, and when.
//!
//! Invariant: a record counts as acknowledged only after its fsync returned.

mod journal;
mod mapping;
mod tree;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Append numbered records to FILE for ever, fsync each, and read a random earlier one back.
    Journal {
        /// The file; made if it is missing.
        file: PathBuf,
        /// Milliseconds between two records.
        #[arg(long, default_value_t = 200)]
        every: u64,
    },
    /// Check that FILE holds the records 0 to n without a gap, and print n.
    CheckJournal {
        /// The file.
        file: PathBuf,
        /// Records that were acknowledged: at least these must be there.
        #[arg(long, default_value_t = 0)]
        at_least: u64,
    },
    /// Map FILE and touch its first page every 500 ms; SIGBUS is an event like any other.
    Mapping {
        /// The file; made if it is missing.
        file: PathBuf,
    },
    /// Print the SHA-256, mode and size of everything below DIRECTORY, sorted, and a digest of that list.
    Tree {
        /// The directory.
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Journal { file, every } => journal::run(&file, every),
        Command::CheckJournal { file, at_least } => journal::check(&file, at_least),
        Command::Mapping { file } => mapping::run(&file),
        Command::Tree { directory } => tree::run(&directory),
    }
}

/// Seconds since the epoch, for events.
fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |duration| duration.as_secs_f64())
}

/// Prints one event.
fn event(value: &serde_json::Value) {
    println!("{value}");
}

/// The errno of an I/O error by name, or its text.
fn errno_name(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| format!("{:?}", nix::errno::Errno::from_raw(code)))
}
