//! Vendors' own Python clients against our emulators: an environment for each, and its scenario.
//!
//! Invariant: an environment holds exactly the packages whose hashes stand in `tests/conformance/VENDOR/requirements.txt`, and is made
//! once for each list of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is how a test fails")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Where downloads and builds are kept between runs; what the caller names where unset.
const CACHE_VARIABLE: &str = "COFFERDAM_CACHE";

fn folder(vendor: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(vendor)
}

fn run(command: &mut Command, what: &str) {
    let out = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{what} failed:\n{text}");
}

/// The Python of a vendor's environment. `temporary` is the caller's `CARGO_TARGET_TMPDIR`.
fn python(vendor: &str, temporary: &str) -> PathBuf {
    let requirements = folder(vendor).join("requirements.txt");
    let version = Command::new("python3")
        .arg("--version")
        .output()
        .expect("python3 (Debian: python3 python3-venv)")
        .stdout;
    let digest =
        Sha256::new().chain_update(fs::read(&requirements).unwrap()).chain_update(version).finalize();
    let name = format!("{:016x}", u64::from_be_bytes(digest[..8].try_into().unwrap()));
    let cache = std::env::var_os(CACHE_VARIABLE).map_or_else(|| temporary.into(), PathBuf::from);
    let home = cache.join("python").join(format!("{vendor}-{name}"));
    fs::create_dir_all(home.parent().unwrap()).unwrap();
    let lock = File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let python = home.join("bin/python");
    let complete = home.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&home);
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&home),
            "make a virtual environment (Debian: python3-venv)",
        );
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--only-binary=:all:",
            "-r",
        ];
        run(Command::new(&python).args(pip).arg(&requirements), "install the pinned packages");
        fs::write(complete, "").unwrap();
    }
    python
}

/// Runs a vendor's `scenario.py` with what `configure` adds, and wants `steps` of its steps to hold. `temporary` is the caller's
/// `CARGO_TARGET_TMPDIR`.
pub fn scenario(vendor: &str, temporary: &str, steps: usize, configure: impl FnOnce(&mut Command)) {
    let mut command = Command::new(python(vendor, temporary));
    command.arg(folder(vendor).join("scenario.py"));
    configure(&mut command);
    // Scenarios share `steps.py`; the sources are no place for what Python compiles.
    command.env("PYTHONPATH", folder(".")).env("PYTHONDONTWRITEBYTECODE", "1");
    let out = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{text}");
    assert!(out.status.success(), "the scenario failed:\n{text}");
    assert!(text.contains(&format!("{steps} steps hold")), "not every step ran:\n{text}");
}
