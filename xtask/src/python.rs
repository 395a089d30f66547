//! Python with packages from the Python package index, for tests that run a vendor's own client.
//!
//! Invariant: an environment holds exactly what its `requirements.txt` pins by hash, and is made once for each such list.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::{digest, process, progress};

/// The interpreter that has what `tests/conformance/<name>/requirements.txt` names.
pub fn ensure(places: &Places, name: &str) -> Result<PathBuf> {
    let requirements = places.repository.join("tests/conformance").join(name).join("requirements.txt");
    let mut pinned = fs::read(&requirements).context("read the pinned requirements")?;
    // Packages with compiled parts are of one version of Python.
    pinned.extend(process::output(Command::new("python3").arg("--version"))?.into_bytes());
    let home = places.cache.join("python").join(format!("{name}-{}", &digest::of(pinned)[..16]));
    fs::create_dir_all(&places.cache.join("python")).context("make the folder of Python environments")?;
    let lock = File::create(home.with_extension("lock")).context("make the environment's lock")?;
    lock.lock().context("wait for the environment")?;
    let python = home.join("bin/python");
    let complete = home.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    progress::step(&format!("downloading Python packages of {name}"), || {
        let _ = fs::remove_dir_all(&home);
        let logs = places.cache.join("logs");
        let mut venv = Command::new("python3");
        process::logged(venv.args(["-m", "venv"]).arg(&home), &logs.join(format!("python-{name}-venv.log")))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--require-hashes", "--only-binary=:all:", "-r"]).arg(&requirements);
        process::logged(&mut pip, &logs.join(format!("python-{name}-pip.log")))?;
        fs::write(&complete, "").context("say that the environment is complete")
    })?;
    Ok(python)
}
