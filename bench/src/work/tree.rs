//! A tree of sources, unpacked and searched. Invariant: the archive is the same for every contender.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Done;
use crate::ground::Ground;

/// Packs `sources`, or the C library's and the kernel's headers of this machine, into an archive in `dir`.
pub fn archive(sources: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    let archive = dir.join("sources.tar");
    let sources = sources.unwrap_or(Path::new("/usr/include"));
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(sources).arg("-cf").arg(&archive).arg(".").stderr(Stdio::null());
    ensure!(tar.status().context("start tar")?.success(), "tar could not pack {}", sources.display());
    Ok(archive)
}

fn size(ground: &Ground<'_>) -> Result<f64> {
    Ok(fs::metadata(ground.archive)?.len() as f64 / 1e6)
}

pub fn remove(ground: &Ground<'_>) -> Result<()> {
    match fs::remove_dir_all(ground.at("tree")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub fn unpack(ground: &Ground<'_>) -> Result<Done> {
    let tree = ground.at("tree");
    fs::create_dir(&tree)?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&tree).arg("-xf").arg(ground.archive);
    ensure!(tar.status().context("start tar")?.success(), "tar x failed");
    Ok(Done::Amount(size(ground)?))
}

pub fn make(ground: &Ground<'_>) -> Result<()> {
    if !ground.at("tree").exists() {
        unpack(ground)?;
    }
    Ok(())
}

pub fn search(ground: &Ground<'_>) -> Result<Done> {
    let mut grep = Command::new("grep");
    grep.args(["-r", "-c", "-F", "no line holds this"]).arg(ground.at("tree")).stdout(Stdio::null());
    // 1: nothing was found, as it should be.
    ensure!(grep.status().context("start grep")?.code() == Some(1), "grep -r failed");
    Ok(Done::Amount(size(ground)?))
}
