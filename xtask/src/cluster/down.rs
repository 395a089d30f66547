//! Ends the cluster and cleans up after it, also after a run that was killed. Invariant: only processes of the recorded
//! namespaces are ended, and only what is named after the run folder is removed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::state::{self, State};
use super::{Cluster, cgroup};
use crate::places::Places;
use crate::{process, progress};

const LIMIT: Duration = Duration::from_secs(30);
/// The copy of this program that the first process runs, in the run folder.
pub const FIRST_PROCESS: &str = "first-process";
const PAUSE: Duration = Duration::from_millis(50);

/// Ends the cluster if it runs, and removes what is left in any case.
pub fn down(cluster: &Cluster) -> Result<()> {
    let _lock = state::lock(cluster.places())?;
    progress::step("ending the cluster", || remove_leftovers(cluster))
}

/// Removes everything that a former run left; its logs stay until the next start.
pub fn remove_leftovers(cluster: &Cluster) -> Result<()> {
    let places = cluster.places();
    for state in State::read(places).into_iter().chain(unrecorded(places)?) {
        end_processes(&state)?;
    }
    cgroup::remove(&cgroup::name(places), LIMIT)?;
    progress::until("loop devices to be given back", LIMIT, PAUSE, || no_loop_devices(places))?;
    empty(&places.run)
}

/// First processes that a start left before it could record them: they run the copy of this program in the run folder.
fn unrecorded(places: &Places) -> Result<Vec<State>> {
    use std::os::unix::fs::MetadataExt;
    let Ok(program) = fs::metadata(places.run.join(FIRST_PROCESS)) else { return Ok(Vec::new()) };
    let same = |pid: &i32| {
        let running = fs::metadata(format!("/proc/{pid}/exe"));
        running.is_ok_and(|file| (file.dev(), file.ino()) == (program.dev(), program.ino()))
    };
    // One that ends meanwhile needs no ending.
    Ok(state::processes()?.into_iter().filter(same).filter_map(|pid| State::of(pid).ok()).collect())
}

fn end_processes(state: &State) -> Result<()> {
    if state.alive() {
        signal(state.pid)?;
        // The kernel ends every process of the namespace before the first one is gone.
        progress::until("the cluster's first process to end", LIMIT, PAUSE, || {
            ensure!(!state.alive(), "process {} is still there", state.pid);
            Ok(())
        })?;
    }
    // Programs that only entered the network or the mounts keep these alive. Never this process or those above it.
    let spared = own_line()?;
    progress::until("the last users of the cluster's namespaces to end", LIMIT, PAUSE, || {
        let users: Vec<_> = users(state)?.into_iter().filter(|pid| !spared.contains(pid)).collect();
        for pid in &users {
            signal(*pid)?;
        }
        ensure!(users.is_empty(), "processes {users:?} are still there");
        Ok(())
    })
}

fn signal(pid: i32) -> Result<()> {
    match kill(Pid::from_raw(pid), Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("end process {pid}")),
    }
}

/// Processes in the recorded namespaces. The numbers of namespaces mean something only within one boot.
fn users(state: &State) -> Result<Vec<i32>> {
    let own = std::process::id().cast_signed();
    let same_boot = State::of(own).is_ok_and(|this| this.boot == state.boot);
    if !same_boot || recorded_numbers_are_our_own(state, own) {
        return Ok(Vec::new());
    }
    let mut users = state::processes()?;
    users.retain(|&pid| {
        state::namespace(pid, "net").is_ok_and(|inode| inode == state.net)
            || state::namespace(pid, "mnt").is_ok_and(|inode| inode == state.mount)
    });
    Ok(users)
}

/// The kernel may give a number again; what stands for the machine's own namespaces is not the cluster's.
fn recorded_numbers_are_our_own(state: &State, own: i32) -> bool {
    state::namespace(1, "net").is_ok_and(|inode| inode == state.net)
        || state::namespace(1, "mnt").is_ok_and(|inode| inode == state.mount)
        || state::namespace(own, "mnt").is_ok_and(|inode| inode == state.mount)
}

fn own_line() -> Result<Vec<i32>> {
    let mut line = vec![std::process::id().cast_signed()];
    while let Some(&last) = line.last().filter(|&&pid| pid > 1) {
        line.push(state::parent(last)?);
    }
    Ok(line)
}

/// Asks for each image by its device and inode: a loop device tells the name that the cluster knew the file by.
fn no_loop_devices(places: &Places) -> Result<()> {
    let Ok(entries) = fs::read_dir(places.run.join("volumes")) else { return Ok(()) };
    for entry in entries {
        let path = entry.context("list the volumes")?.path();
        if path.is_file() {
            let devices = process::output(Command::new("losetup").arg("--associated").arg(&path))?;
            ensure!(devices.is_empty(), "{} is still attached: {}", path.display(), devices.trim());
        }
    }
    Ok(())
}

/// Removes all but the logs from the run folder.
fn empty(run: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(run) else { return Ok(()) };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", run.display()))?;
        if entry.file_name() == "logs" {
            continue;
        }
        let path = entry.path();
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
