//! Who is measured: the storage itself, the floor, gocryptfs, Cofferdam, and ways to serve it that are only tried out.
//!
//! Invariant: each has a directory of its own on the same storage; a server ends, and its mount with it, when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::mount::{UnmountFlags, unmount};

use crate::cpu;
use crate::kms::Kms;

/// A kind of filesystem, and the name by which it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Contender {
    /// The backing filesystem.
    Storage,
    /// Our transport with no encryption.
    Floor,
    /// gocryptfs, as Debian packages it.
    Gocryptfs,
    /// This project.
    Cofferdam,
    /// The floor, with requests by io_uring.
    FloorIoUring,
    /// This project, with requests by io_uring.
    IoUring,
    /// This project, with the kernel's writeback cache.
    Writeback,
    /// This project, with 16 threads.
    Threads,
    /// This project, with one thread that looks for requests for a while before it sleeps.
    Spin,
}

impl Contender {
    /// Those of the main table.
    pub const MAIN: [Self; 4] = [Self::Storage, Self::Floor, Self::Gocryptfs, Self::Cofferdam];

    /// As columns are headed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Floor => "floor",
            Self::Gocryptfs => "gocryptfs",
            Self::Cofferdam => "cofferdam",
            Self::FloorIoUring => "floor, io_uring",
            Self::IoUring => "io_uring",
            Self::Writeback => "writeback cache",
            Self::Threads => "16 threads",
            Self::Spin => "1 thread, spinning",
        }
    }

    /// Whether its requests come by io_uring.
    pub fn is_ring(self) -> bool {
        matches!(self, Self::FloorIoUring | Self::IoUring)
    }

    /// Whether it is a way to serve that is only tried out.
    pub fn is_trial(self) -> bool {
        !Self::MAIN.contains(&self)
    }

    /// What the servers of this project are told.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::FloorIoUring | Self::IoUring => &["--io-uring"],
            Self::Writeback => &["--writeback-cache"],
            Self::Threads => &["--threads", "16"],
            Self::Spin => &["--threads", "1", "--spin", "50"],
            Self::Storage | Self::Floor | Self::Gocryptfs | Self::Cofferdam => &[],
        }
    }
}

/// A contender, ready to be worked on.
pub struct Mounted {
    pub contender: Contender,
    /// Where files are read and written.
    pub path: PathBuf,
    /// What the storage holds of it.
    pub raw: PathBuf,
    server: Option<Child>,
}

/// What a mount needs besides its directories.
pub struct Means<'a> {
    pub kms: &'a Kms,
    pub sidecar: &'a Path,
    pub mount_arguments: &'a [String],
}

impl Mounted {
    /// Mounts `contender` in `ground` (`raw` and `plain` below it are made).
    pub fn start(contender: Contender, ground: &Path, means: &Means<'_>) -> Result<Self> {
        let (raw, path) = (ground.join("raw"), ground.join("plain"));
        fs::create_dir_all(&raw)?;
        fs::create_dir_all(&path)?;
        let server = match contender {
            Contender::Storage => {
                return Ok(Self { contender, path: raw.clone(), raw, server: None });
            }
            Contender::Floor | Contender::FloorIoUring => {
                let mut server = Command::new(std::env::current_exe()?);
                server.arg("floor").args([&raw, &path]).args(contender.arguments());
                served(server)?
            }
            Contender::Gocryptfs => gocryptfs(&raw, &path)?,
            _ => {
                let mut server = Command::new(means.sidecar);
                server.arg("mount").args([&raw, &path]).args(means.mount_arguments);
                server.args(contender.arguments());
                server.arg("--allow-loopback-http").arg("--profile").arg(means.kms.profile());
                served(server)?
            }
        };
        Ok(Self { contender, path, raw, server: Some(server) })
    }

    /// The server's process.
    pub fn server(&self) -> Option<rustix::process::Pid> {
        self.server.as_ref().map(rustix::process::Pid::from_child)
    }

    /// Seconds that the server has computed so far.
    pub fn server_cpu(&self) -> f64 {
        self.server.as_ref().map_or(0.0, |server| cpu::seconds(&server.id().to_string(), cpu::OWN))
    }

    /// The most bytes that the server ever had resident.
    pub fn resident(&self) -> u64 {
        let Some(server) = &self.server else { return 0 };
        let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        let end = Instant::now() + Duration::from_secs(20);
        while unmount(&self.path, UnmountFlags::empty()).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        while matches!(server.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = server.kill();
        let _ = server.wait();
    }
}

/// Removes the mounts that a run left behind that was killed; their servers end with them.
pub fn clear(dir: &Path) {
    for path in mounts().iter().rev().filter(|path| path.starts_with(dir)) {
        let _ = unmount(path, UnmountFlags::DETACH);
    }
}

/// A server of ours, once it says that it mounted.
fn served(mut command: Command) -> Result<Child> {
    let mut server = command.stderr(Stdio::piped()).spawn().with_context(|| format!("start {command:?}"))?;
    let mut said = BufReader::new(server.stderr.take().context("its standard error")?).lines();
    let mut before = Vec::new();
    for line in said.by_ref() {
        let line = line?;
        if line.starts_with("mounted") {
            // What it says later is shown; a server whose standard error nobody reads would stand still.
            std::thread::spawn(move || said.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
            return Ok(server);
        }
        before.push(line);
    }
    let _ = server.wait();
    bail!("{command:?} did not mount: {}", before.join("\n"))
}

/// gocryptfs in the foreground, with a password that is no secret.
fn gocryptfs(raw: &Path, path: &Path) -> Result<Child> {
    let password = raw.with_extension("password");
    fs::File::create(&password)?.write_all(b"bench\n")?;
    if !raw.join("gocryptfs.conf").exists() {
        let mut init = Command::new("gocryptfs");
        // The cost of deriving a key from a password is none of what is measured.
        init.args(["-init", "-q", "-scryptn", "10", "-passfile"]).arg(&password).arg(raw);
        ensure!(init.status().context("start gocryptfs")?.success(), "gocryptfs -init failed");
    }
    let mut server = Command::new("gocryptfs");
    server.args(["-fg", "-q", "-allow_other", "-acl", "-passfile"]).arg(&password).args([raw, path]);
    let child = server.stdout(Stdio::null()).spawn().context("start gocryptfs")?;
    let end = Instant::now() + Duration::from_secs(20);
    while !mounts().iter().any(|at| at == path) {
        ensure!(Instant::now() < end, "gocryptfs did not mount");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}

/// Where something is mounted.
fn mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect()
}
