//! Test suites of others that crates.io has. Invariant: their versions are pinned, and each is built once into the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::places::Places;
use crate::{process, progress};

/// Crate and version.
const SUITES: &[(&str, &str)] = &[("pjdfstest", "0.2.2"), ("fsx", "0.3.2")];

/// Where the program of a suite is, or will be.
pub fn program(places: &Places, name: &str) -> PathBuf {
    let version = SUITES.iter().find(|(suite, _)| *suite == name).map_or("none", |(_, version)| version);
    places.cache.join("suites").join(format!("{name}-{version}")).join("bin").join(name)
}

/// Builds those that are missing.
pub fn ensure(places: &Places) -> Result<()> {
    for (name, version) in SUITES {
        let program = program(places, name);
        if program.exists() {
            continue;
        }
        let root = places.cache.join("suites").join(format!("{name}-{version}"));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", "--locked", "--root"]).arg(&root).arg(format!("{name}@{version}"));
        // Not among this workspace's own output.
        cargo.env_remove("CARGO_TARGET_DIR").current_dir(&places.cache);
        progress::step(&format!("building {name} {version}"), || {
            process::logged(&mut cargo, &places.cache.join("logs").join(format!("install-{name}.log")))
        })?;
    }
    Ok(())
}
