//! A filesystem on a directory, served by a process that can be killed.
//!
//! Invariant: the process ends with the one that started it, because its standard input does; a target is unmounted before
//! it is served anew.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::UnmountFlags;

use crate::command::{run, words};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, with keys in memory.
    Memory,
    /// The same, on a strict volume with virtual ownership.
    Strict,
    /// Ours, as a sidecar serves a volume that it sweeps itself; the KMS is in this profile.
    Volume(PathBuf),
    /// `cofferdam-sidecar mount`; the KMS is in this profile.
    Command(PathBuf),
    /// gocryptfs, to compare.
    Gocryptfs,
    /// Nothing: the storage itself, to compare.
    Storage,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    kind: Kind,
    backing: PathBuf,
    target: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    /// Closed when this ends, which the server takes as an order to end.
    input: ChildStdin,
    output: Option<BufReader<File>>,
}

impl Server {
    /// Serves `backing` on the directory `target`; `program` is this crate's own.
    pub fn start(program: &Path, kind: Kind, backing: &Path, target: &Path) -> Result<Self> {
        if kind == Kind::Gocryptfs {
            initialise_gocryptfs(backing)?;
        }
        let target = if kind == Kind::Storage { backing } else { target };
        let paths = [program, backing, target].map(Path::to_path_buf);
        let [program, backing, target] = paths;
        let mut server = Self { program, kind, backing, target, running: None };
        server.again()?;
        Ok(server)
    }

    /// A path in what is served.
    pub fn path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// A path on the storage.
    pub fn backing(&self, name: &str) -> PathBuf {
        self.backing.join(name)
    }

    /// It obeys `rotate VERSION`.
    pub fn rotates(&self) -> bool {
        matches!(self.kind, Kind::Memory | Kind::Strict)
    }

    /// The server's process.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.process.id())
    }

    /// Serves again, after the server ended in whatever way.
    pub fn again(&mut self) -> Result<()> {
        self.end();
        let ready = match &self.kind {
            Kind::Storage => return Ok(()),
            Kind::Memory | Kind::Strict | Kind::Volume(_) => "ready",
            Kind::Command(_) => "mounted;",
            Kind::Gocryptfs => "",
        };
        let mut process = self.command().spawn().context("start the server")?;
        let input = process.stdin.take().context("write to the server")?;
        let output =
            process.stdout.take().map(OwnedFd::from).or_else(|| process.stderr.take().map(OwnedFd::from));
        let output = output.map(|output| BufReader::new(File::from(output)));
        self.running = Some(Running { process, input, output });
        if ready.is_empty() { self.wait_mounted() } else { self.expect(ready) }
    }

    /// Tells the server something, and returns its answer.
    pub fn say(&mut self, line: &str) -> Result<String> {
        let running = self.running.as_mut().context("the server is not running")?;
        writeln!(running.input, "{line}").context("write to the server")?;
        self.line()?.with_context(|| format!("the server ended instead of answering {line}"))
    }

    /// Kills the server, as a crash would; the mount is dead until [`Self::again`].
    pub fn kill(&mut self) -> Result<()> {
        let running = self.running.as_mut().context("the server is not running")?;
        running.process.kill().context("kill the server")?;
        running.process.wait().context("wait for the server")?;
        Ok(())
    }

    /// Takes the mount away, and ends the server.
    pub fn end(&mut self) {
        if self.kind != Kind::Storage {
            let _ = rustix::mount::unmount(&self.target, UnmountFlags::DETACH);
        }
        if let Some(mut running) = self.running.take() {
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }

    /// Unmounts in order and serves anew: nothing is cached any more.
    pub fn restart(&mut self) -> Result<()> {
        if self.kind != Kind::Storage {
            crate::place::unmount(&self.target)?;
        }
        self.again()
    }

    fn command(&self) -> Command {
        let [backing, target] = words([&self.backing, &self.target]);
        let mut command = Command::new(&self.program);
        match &self.kind {
            Kind::Memory | Kind::Storage => command.args(["memory", &backing, &target]),
            Kind::Strict => command.args(["memory", &backing, &target, "strict", "virtual"]),
            Kind::Volume(profile) => command.args(["volume", &backing, &target]).arg(profile),
            Kind::Command(profile) => {
                command.args(["sidecar", "mount", &backing, &target, "--allow-loopback-http", "--profile"]);
                command.arg(profile)
            }
            Kind::Gocryptfs => {
                command = Command::new("gocryptfs");
                command.args(["-q", "-fg", "-extpass", "echo faults", &backing, &target])
            }
        };
        command.stdin(Stdio::piped());
        match &self.kind {
            // It tells of every block that it cannot open, and the check does too.
            Kind::Gocryptfs => drop(command.stderr(Stdio::null())),
            // That is where it says that it has mounted.
            Kind::Command(_) => drop(command.stderr(Stdio::piped())),
            _ => drop(command.stdout(Stdio::piped())),
        }
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                // A write beyond RLIMIT_FSIZE is to be an error, not the end.
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                // A program that does not look at its standard input ends with the thread that started it.
                Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
            });
        }
        command
    }

    fn wait_mounted(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let target = self.target.to_string_lossy().into_owned();
        loop {
            let table = std::fs::read_to_string("/proc/thread-self/mountinfo").context("list the mounts")?;
            if table.lines().any(|line| line.split(' ').nth(4) == Some(&target)) {
                return Ok(());
            }
            let ended =
                self.running.as_mut().map(|running| running.process.try_wait()).transpose()?.flatten();
            if let Some(status) = ended {
                bail!("the server ended: {status}");
            }
            if Instant::now() > end {
                bail!("the server does not mount");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        while let Some(line) = self.line()? {
            if line.starts_with(wanted) {
                return Ok(());
            }
        }
        bail!("the server ended before it said {wanted}");
    }

    /// The server's next line; `None`: it has ended. One that hangs is ended.
    fn line(&mut self) -> Result<Option<String>> {
        let running = self.running.as_mut().context("the server is not running")?;
        let output = running.output.as_mut().context("the server says nothing")?;
        if output.buffer().is_empty() {
            let mut polled = [PollFd::new(output.get_ref(), PollFlags::IN)];
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            if poll(&mut polled, Some(&patience))? == 0 {
                let _ = running.process.kill();
                bail!("the server says nothing");
            }
        }
        let mut line = String::new();
        let length = output.read_line(&mut line).context("read from the server")?;
        Ok((length > 0).then(|| line.trim().to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn initialise_gocryptfs(backing: &Path) -> Result<()> {
    if backing.join("gocryptfs.conf").exists() {
        return Ok(());
    }
    let [backing] = words([backing]);
    run("gocryptfs", &["-init", "-q", "-scryptn", "10", "-extpass", "echo faults", &backing])?;
    // What it makes at its start is none of what is tried here.
    run("sync", &["--file-system", &backing]).map(drop)
}
