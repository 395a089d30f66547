//! The filesystem behind a real FUSE mount, used by ordinary programs and system calls.
//!
//! The server is a process of its own, as in a pod: this program started again. Needs root and `/dev/fuse`; without them the
//! tests are skipped and say so, and with `CI=true` they fail.

#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod data;
mod io_uring;
#[path = "../../examples/memory_mount.rs"]
mod memory_mount;
mod power;
mod programs;
mod promises;
mod seal;
mod server;
mod suspension;
mod trouble;
mod writeback;

/// The server's process: not a test.
#[test]
#[ignore = "the process that serves a mount for the tests"]
fn serve_a_mount() {
    if let Ok(args) = std::env::var(server::SERVE) {
        let args: Vec<String> = args.split('\n').map(str::to_owned).collect();
        memory_mount::run(&args).unwrap();
    }
}

/// A process with a mapping: not a test.
#[test]
#[ignore = "the process that maps a file for the tests"]
fn map_a_file() {
    if let Ok(path) = std::env::var(suspension::MAP) {
        suspension::map_and_obey(path.as_ref());
    }
}
