//! The program `cofferdam`, also `kubectl cofferdam`.
//!
//! Invariant: everything is in the library; here are only the command line and the exit code.

fn main() {
    std::process::exit(cli::run(std::env::args_os().collect()))
}
