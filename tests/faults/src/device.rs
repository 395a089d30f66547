//! A disk that fails on request: nbdkit keeps it in memory and refuses what it is told to refuse, nbdfuse shows it as a file,
//! and a loop device makes a disk of that.
//!
//! Invariant: the filesystem on it has no journal, so that a refused write is not the end of the filesystem.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::{run, words};
use crate::place::{Place, unmount};

/// How long the programs may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the device refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    /// Reading.
    Reads,
    /// Writing.
    Writes,
}

/// See the module.
#[derive(Debug)]
pub struct Device {
    image: PathBuf,
    root: PathBuf,
    /// The files that make it refuse something while they exist.
    switches: [PathBuf; 2],
    /// The server of the file, and of the disk behind it.
    processes: [Child; 2],
}

impl Device {
    /// The programs that it needs.
    pub const PROGRAMS: &[&str] = &["losetup", "mount", "mkfs.ext4", "nbdkit", "nbdfuse"];

    /// A device of 64 MiB with a mounted ext4.
    pub fn new(place: &Place) -> Result<Self> {
        let (socket, shown) = (place.path("nbd.sock"), place.dir("device")?);
        let switches = [place.path("refuse-reads"), place.path("refuse-writes")];
        let [reads, writes] = words([&switches[0], &switches[1]]);
        let [socket_word] = words([&socket]);
        let mut kit = Command::new("nbdkit");
        kit.args([
            "--foreground",
            "--unix",
            &socket_word,
            "--filter=error",
            "memory",
            "64M",
            "error-rate=100%",
        ]);
        kit.args([&format!("error-pread-file={reads}"), &format!("error-pwrite-file={writes}")]);
        kit.args([&format!("error-zero-file={writes}"), &format!("error-trim-file={writes}")]);
        // What is not named above would fail always.
        kit.args(["error-extents-rate=0%", "error-cache-rate=0%"]);
        let kit = started(&mut kit)?;
        wait_for(&socket)?;
        let image = shown.join("disk.img");
        let fuse = started(
            Command::new("nbdfuse").args([&image]).arg(format!("nbd+unix:///?socket={socket_word}")),
        )?;
        wait_for(&image)?;
        let device = Self { image, root: place.dir("disk")?, switches, processes: [fuse, kit] };
        let [path] = words([&device.image]);
        run("mkfs.ext4", &["-q", "-b", "4096", "-O", "^has_journal", &path])?;
        device.mount()?;
        Ok(device)
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From now on it refuses these, or not.
    pub fn refuse(&self, what: Refuses, on: bool) -> Result<()> {
        let switch = &self.switches[usize::from(what == Refuses::Writes)];
        if on {
            std::fs::write(switch, b"").context("make the device fail")
        } else {
            std::fs::remove_file(switch).context("make the device work")
        }
    }

    /// Mounts it anew, with nothing cached.
    pub fn mount_again(&self) -> Result<()> {
        unmount(&self.root)?;
        let file = File::open(&self.image)?;
        let all = std::num::NonZero::new(64 << 20);
        rustix::fs::fadvise(&file, 0, all, rustix::fs::Advice::DontNeed).context("drop what is cached")?;
        drop(file);
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let [image, root] = words([&self.image, &self.root]);
        run("mount", &["-o", "loop", &image, &root]).map(drop)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for switch in &self.switches {
            let _ = std::fs::remove_file(switch);
        }
        let _ = unmount(&self.root);
        if let Some(shown) = self.image.parent() {
            let _ = unmount(shown);
        }
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A process that ends with this thread.
fn started(command: &mut Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
        });
    }
    command.spawn().with_context(|| format!("start {name}"))
}

fn wait_for(path: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !path.exists() {
        ensure!(Instant::now() < end, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
