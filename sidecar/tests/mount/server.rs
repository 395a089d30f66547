//! A served mount, in a process that can be killed.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

/// The environment variable with the server's arguments, one a line.
pub const SERVE: &str = "COFFERDAM_TEST_SERVE";

/// A mount and its server.
pub struct Server {
    pub dir: TempDir,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    flags: Vec<String>,
}

/// A mounted server; `None`, loudly, where this process may not mount.
pub fn start(flags: &[&str]) -> Option<Server> {
    let able = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !able {
        assert!(std::env::var_os("CI").is_none(), "these tests need root and /dev/fuse");
        eprintln!("SKIPPED: no root, or no /dev/fuse");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["backing", "mount"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    Some(start_in(dir, flags))
}

/// A server over a directory that holds `backing` and `mount`.
pub fn start_in(dir: TempDir, flags: &[&str]) -> Server {
    let flags: Vec<String> =
        flags.iter().copied().chain(crate::io_uring::flag()).map(str::to_owned).collect();
    let (process, input, output) = spawn(&dir, &flags, None);
    let mut server = Server { dir, process, input, output, flags };
    server.expect("ready");
    server
}

/// A server with no right of root over a mount that was made for it: user 65532, with the supplementary group 2000.
pub fn start_unprivileged(dir: TempDir) -> Server {
    let target = dir.path().join("mount");
    let device = sidecar::mount::open_and_mount(&target, false).unwrap();
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap();
    let given = format!("fd={}", device.as_raw_fd());
    let flags: Vec<String> =
        ["virtual", &given].into_iter().chain(crate::io_uring::flag()).map(str::to_owned).collect();
    let (process, input, output) = spawn(&dir, &flags, Some(65532));
    drop(device);
    let mut server = Server { dir, process, input, output, flags };
    server.expect("ready");
    server
}

fn spawn(dir: &TempDir, flags: &[String], user: Option<u32>) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let args = [&[path("backing"), path("mount")], flags].concat().join("\n");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "serve_a_mount", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.env(SERVE, args).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(user) = user {
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                let (uid, gid) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(user));
                nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(2000)])?;
                nix::unistd::setgid(gid)?;
                Ok(nix::unistd::setuid(uid)?)
            });
        }
    }
    let mut process = command.spawn().unwrap();
    let input = process.stdin.take().unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    (process, input, output)
}

impl Server {
    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mount").join(name)
    }

    /// A path on the backing storage.
    pub fn backing(&self, name: &str) -> PathBuf {
        self.dir.path().join("backing").join(name)
    }

    /// Tells the server something, and returns its answer.
    pub fn say(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let answer = self.line();
        answer.unwrap_or_else(|| panic!("the server ended instead of answering {line}"))
    }

    /// Kills the server, as a crash would; the mount is dead until [`Self::again`].
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Serves the same directory anew, after the server ended in whatever way.
    pub fn again(&mut self) {
        self.unmount();
        let (process, input, output) = spawn(&self.dir, &self.flags, None);
        (self.process, self.input, self.output) = (process, input, output);
        self.expect("ready");
    }

    /// Unmounts and serves the same directory anew.
    pub fn restart(&mut self) {
        assert_eq!(self.say("unmount"), "Unmounted");
        self.process.wait().unwrap();
        self.again();
    }

    fn unmount(&self) {
        let _ = rustix::mount::unmount(self.path(""), rustix::mount::UnmountFlags::DETACH);
    }

    fn expect(&mut self, wanted: &str) {
        while let Some(line) = self.line() {
            if line.ends_with(wanted) {
                return;
            }
        }
        panic!("the server ended before it said {wanted}");
    }

    /// The server's next line; `None`: it has ended. A server that hangs is ended, so that the test fails and does not hang.
    fn line(&mut self) -> Option<String> {
        const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
        if self.output.buffer().is_empty() {
            let mut polled = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            if poll(&mut polled, Some(&PATIENCE)).unwrap() == 0 {
                self.kill();
                panic!("the server says nothing");
            }
        }
        let mut line = String::new();
        let length = self.output.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.unmount();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a shell script; panics with its output if it fails.
pub fn shell(dir: &Path, script: &str) -> String {
    shell_as(dir, script, None)
}

/// [`shell`], as another user: `(uid, gid, supplementary group)`.
pub fn shell_as(dir: &Path, script: &str, user: Option<(u32, u32, u32)>) -> String {
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("HOME", "/nonexistent");
    if let Some((uid, gid, group)) = user {
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(group)])?;
                nix::unistd::setgid(nix::unistd::Gid::from_raw(gid))?;
                Ok(nix::unistd::setuid(nix::unistd::Uid::from_raw(uid))?)
            });
        }
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Bytes that tell their place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| step()).collect()
}
