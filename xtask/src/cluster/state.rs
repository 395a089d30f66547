//! What a running cluster leaves in its run folder for later commands. Invariant: a process is taken for the cluster's
//! only if its start time and the boot match too, never by its number alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::places::Places;

/// The first process of a cluster, as seen from outside its namespaces.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its process id outside.
    pub pid: i32,
    /// Its start, in clock ticks since the boot.
    pub started: u64,
    /// The boot that both numbers belong to.
    pub boot: String,
    /// The inode of its network namespace.
    pub net: u64,
    /// The inode of its mount namespace.
    pub mount: u64,
}

impl State {
    /// What `/proc` says of the process `pid`.
    pub fn of(pid: i32) -> Result<Self> {
        Ok(Self {
            pid,
            started: start_time(pid)?,
            boot: boot()?,
            net: namespace(pid, "net")?,
            mount: namespace(pid, "mnt")?,
        })
    }

    /// Whether that very process still runs.
    pub fn alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot) && start_time(self.pid).is_ok_and(|at| at == self.started)
    }

    /// Reads the state that `write` left, if there is one that can be read.
    pub fn read(places: &Places) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(places)).ok()?).ok()
    }

    /// Leaves the state for later commands.
    pub fn write(&self, places: &Places) -> Result<()> {
        let text = serde_json::to_vec(self).context("encode the cluster's state")?;
        let unfinished = path(places).with_extension("unfinished");
        fs::write(&unfinished, text).context("write the cluster's state")?;
        fs::rename(&unfinished, path(places)).context("name the cluster's state")
    }
}

/// Held while the cluster is started, changed or ended.
pub fn lock(places: &Places) -> Result<File> {
    let path = places.run.with_extension("lock");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// The ids of all processes that can be seen.
pub fn processes() -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("list /proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The parent of a process, by `/proc/PID/stat` (field 4).
pub fn parent(pid: i32) -> Result<i32> {
    stat_field(pid, 4)?.parse().context("read a parent's id")
}

/// The inode of one of a process's namespaces.
pub fn namespace(pid: i32, kind: &str) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let path = format!("/proc/{pid}/ns/{kind}");
    Ok(fs::metadata(&path).with_context(|| format!("look at {path}"))?.ino())
}

fn path(places: &Places) -> PathBuf {
    places.run.join("state.json")
}

fn boot() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot's id")?;
    Ok(text.trim().to_owned())
}

fn start_time(pid: i32) -> Result<u64> {
    stat_field(pid, 22)?.parse().context("read a start time")
}

/// Field `number` of `/proc/PID/stat`, counted from 1 as in proc(5).
fn stat_field(pid: i32, number: usize) -> Result<String> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    // The second field, the name, may hold spaces and brackets; the last bracket ends it.
    let (_, rest) = text.rsplit_once(") ").context("read a process's state")?;
    let field = rest.split_ascii_whitespace().nth(number.saturating_sub(3));
    Ok(field.context("read a process's state")?.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn own() -> State {
        State::of(std::process::id().cast_signed()).unwrap()
    }

    #[test]
    fn a_reused_process_id_is_not_taken_for_the_cluster() {
        assert!(own().alive());
        assert!(!State { started: 1, ..own() }.alive());
        assert!(!State { boot: "another".into(), ..own() }.alive());
    }

    #[test]
    fn the_state_is_read_back_as_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::new("/src".into(), "/cache".into(), folder.path().into()).unwrap();
        assert_eq!(State::read(&places), None);
        own().write(&places).unwrap();
        assert_eq!(State::read(&places), Some(own()));
    }

    #[test]
    fn the_parent_of_this_process_is_found() {
        let expected = std::os::unix::process::parent_id().cast_signed();
        assert_eq!(parent(std::process::id().cast_signed()).unwrap(), expected);
    }
}
