//! PostgreSQL on the mount. Invariant: the server runs only during a run, as a user that is not root.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use super::Done;
use crate::ground::Ground;

/// Seconds of a run.
const SECONDS: usize = 10;

/// The newest of Debian's installations.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("find PostgreSQL")?;
    let newest = versions.flatten().map(|entry| entry.path().join("bin")).max();
    newest.context("find a version of PostgreSQL")
}

/// Runs a program of it as its user.
fn run_as_postgres(program: &str, args: &[&str], dir: &Path) -> Result<Output> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(programs()?.join(program));
    let output = command.args(args).current_dir("/").env("PGHOST", dir).output().context("start setpriv")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {args:?}: {text}");
    Ok(output)
}

fn data(ground: &Ground<'_>) -> (PathBuf, String) {
    let path = ground.at("database");
    let text = path.to_string_lossy().into_owned();
    (path, text)
}

fn start(path: &Path, text: &str) -> Result<()> {
    let options = format!("-c listen_addresses= -c unix_socket_directories={text} -c shared_buffers=32MB");
    let log = path.join("log").to_string_lossy().into_owned();
    run_as_postgres("pg_ctl", &["-D", text, "-w", "-l", &log, "-o", &options, "start"], path).map(drop)
}

fn stop(path: &Path, text: &str) -> Result<()> {
    run_as_postgres("pg_ctl", &["-D", text, "-w", "-m", "fast", "stop"], path).map(drop)
}

pub fn make(ground: &Ground<'_>) -> Result<()> {
    let (path, text) = data(ground);
    fs::create_dir(&path)?;
    let user = Command::new("id").args(["-u", "postgres"]).output()?;
    let user: u32 = String::from_utf8_lossy(&user.stdout).trim().parse().context("find the user postgres")?;
    chown(&path, Some(user), Some(user))?;
    run_as_postgres("initdb", &["-k", "-A", "trust", "-D", &text], &path)?;
    start(&path, &text)?;
    run_as_postgres("pgbench", &["-i", "-q", "-s", "10", "postgres"], &path)?;
    stop(&path, &text)
}

pub fn run(ground: &Ground<'_>) -> Result<Done> {
    let (path, text) = data(ground);
    start(&path, &text)?;
    let seconds = ground.count(SECONDS).to_string();
    let output = run_as_postgres("pgbench", &["-c", "2", "-j", "1", "-T", &seconds, "postgres"], &path);
    stop(&path, &text)?;
    let said = String::from_utf8_lossy(&output?.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("tps = ")).context("find pgbench's figure")?;
    Ok(Done::Rate(line.split(' ').next().unwrap_or_default().parse().context("read pgbench's figure")?))
}

pub fn remove(ground: &Ground<'_>) -> Result<()> {
    Ok(fs::remove_dir_all(data(ground).0)?)
}
