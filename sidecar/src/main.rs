//! The program of the sidecar, the gate, the rewrap Job and the offline commands.
//!
//! Invariant: everything is in the library; here are only the command line and the exit code.

use clap::Parser;
use sidecar::cli::{Cli, arguments, run, usage_code};

fn main() {
    let words = arguments(std::env::args_os().collect());
    let usage = usage_code(&words);
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| {
        let code = if error.use_stderr() { usage } else { contract::exit::OK };
        // Help that nobody can read is no failure of its own.
        let _ = error.print();
        std::process::exit(code)
    });
    std::process::exit(run(cli))
}
