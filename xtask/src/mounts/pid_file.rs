//! A process that outlives the command that started it, found again by the next one. Invariant: a process counts as this
//! one only if its command line names the folder that it was started for.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take to end in order.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file with the id of a process that works for a folder.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    folder: PathBuf,
}

impl PidFile {
    /// In `folder`, which the process's command line names.
    pub fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join("pid"), folder: folder.to_owned() }
    }

    /// Remembers a process.
    pub fn write(&self, id: u32) -> Result<()> {
        fs::write(&self.path, id.to_string()).with_context(|| format!("write {}", self.path.display()))
    }

    /// The process, if it still runs.
    pub fn running(&self) -> Option<Pid> {
        let id: i32 = fs::read_to_string(&self.path).ok()?.trim().parse().ok()?;
        let words = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let folder = self.folder.to_string_lossy().into_owned();
        String::from_utf8_lossy(&words).contains(&folder).then(|| Pid::from_raw(id))
    }

    /// Ends the process, if it still runs.
    pub fn stop(&self) -> Result<()> {
        let started = Instant::now();
        while let Some(process) = self.running() {
            let signal = if started.elapsed() < PATIENCE { Signal::SIGTERM } else { Signal::SIGKILL };
            let _ = kill(process, signal);
            if started.elapsed() > PATIENCE * 2 {
                bail!("process {process} does not end");
            }
            sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_file(&self.path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_the_process_of_this_folder_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = PidFile::in_folder(folder.path());
        file.write(std::process::id()).unwrap();
        assert_eq!(file.running(), None, "a process that took over the number");
        let script = "while :; do sleep 0.05; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(folder.path());
        // Nobody waits for its output, should it be left over.
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        file.write(child.id()).unwrap();
        // For a moment after its start a process has no command line.
        let end = Instant::now() + PATIENCE;
        while file.running().is_none() {
            assert!(Instant::now() < end, "it is not found");
            sleep(Duration::from_millis(5));
        }
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        file.stop().unwrap();
        assert!(!reaper.join().unwrap().success(), "it ended by itself");
        assert_eq!(file.running(), None);
    }
}
