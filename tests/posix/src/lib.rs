//! Where the suites stand: encrypted volumes with a KMS behind them, mounted and served as mount(8) does it.
//!
//! Invariant: what a suite runs on is the program that users run, in processes of its own; a run that was killed leaves
//! nothing that hinders the next one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is how a test fails")]

mod run;
mod volume;

use std::path::{Path, PathBuf};

pub use run::{Run, report};
pub use volume::{Kind, Volume};
use xtask::places::Places;

/// Set to run each suite at its full length.
pub const LONG: &str = "COFFERDAM_LONG";

/// The folders of this checkout.
pub fn places() -> Places {
    Places::from_environment().unwrap()
}

/// The shorter of two lengths, or the longer one in the long run.
pub fn scaled<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Whether this is the long run.
pub fn is_long() -> bool {
    std::env::var_os(LONG).is_some_and(|value| value != "0" && !value.is_empty())
}

/// Whether encrypted volumes can be mounted here; says so loudly where not. In CI they must be.
pub fn can_mount() -> bool {
    let able = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    assert!(able || std::env::var_os("CI").is_none(), "CI must run the suites, as root and with /dev/fuse");
    if !able {
        println!("SKIPPED: no root or no /dev/fuse, so nothing can be mounted");
    }
    able
}

/// One of the suites that are installed from crates.io.
pub fn suite(name: &str) -> PathBuf {
    let found = xtask::suites::program(&places(), name);
    assert!(found.exists(), "{} is missing: `cargo xtask test --only suites` installs it", found.display());
    found
}
