//! Debian packages for the image of the test applications, unpacked and not installed. Invariant: what is unpacked comes
//! from a resolution against an empty system, so that this machine's own packages play no part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::places::Places;
use crate::{digest, process, progress};

/// What test applications use.
pub const PACKAGES: &[&str] = &[
    "attr",
    "bash",
    "coreutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "mount",
    "postgresql-15",
    "postgresql-client-15",
    "procps",
    "sed",
    "sqlite3",
    "tar",
    "tzdata",
    "util-linux",
];

/// The folder with the unpacked packages; downloads them once.
pub fn unpacked(places: &Places) -> Result<PathBuf> {
    let key = &digest::of(PACKAGES.join(" "))[..16];
    let root = places.cache.join("debian").join(key);
    if root.exists() {
        return Ok(root);
    }
    let staging = places.cache.join("debian").join(format!("staging-{}", std::process::id()));
    let result = download_and_unpack(places, &staging, &root);
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("remove {}", staging.display()))?;
    }
    result.map(|()| root)
}

fn download_and_unpack(places: &Places, staging: &Path, root: &Path) -> Result<()> {
    for folder in ["lists/partial", "archives/partial", "root"] {
        let path = staging.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    fs::write(staging.join("status"), "").context("write an empty package status")?;
    progress::step("downloading Debian packages for test applications", || {
        let logs = places.cache.join("logs");
        process::logged(apt(staging).arg("update"), &logs.join("apps-update.log"))?;
        let mut install = apt(staging);
        install.args(["install", "--download-only", "--yes", "--no-install-recommends"]).args(PACKAGES);
        process::logged(&mut install, &logs.join("apps-download.log"))
    })?;
    progress::step("unpacking them", || unpack(staging))?;
    fs::rename(staging.join("root"), root).with_context(|| format!("name {}", root.display()))
}

/// `apt-get` with a state of its own.
fn apt(staging: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    let option = |name: &str, path: &str| format!("{name}={}", staging.join(path).display());
    apt.args(["-q", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=true"]);
    for (name, path) in [
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache::archives", "archives"),
    ] {
        apt.arg("-o").arg(option(name, path));
    }
    for (name, path) in
        [("Dir::Cache::pkgcache", "pkgcache.bin"), ("Dir::Cache::srcpkgcache", "srcpkgcache.bin")]
    {
        apt.arg("-o").arg(option(name, path));
    }
    apt
}

fn unpack(staging: &Path) -> Result<()> {
    let archives = staging.join("archives");
    let mut count = 0;
    for entry in fs::read_dir(&archives).with_context(|| format!("list {}", archives.display()))? {
        let path = entry.context("list the downloaded packages")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::output(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(staging.join("root")))?;
            count += 1;
        }
    }
    ensure!(count >= PACKAGES.len(), "apt-get downloaded only {count} packages");
    Ok(())
}
