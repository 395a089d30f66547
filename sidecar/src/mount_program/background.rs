//! A service that outlives the command that started it.
//!
//! Invariant: the command's descriptors are free once the service is ready, so that nobody waits for an end of its output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use contract::exit;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, setsid};

/// Where the service writes once it is ready; nowhere unless a file is named.
pub fn log(path: Option<&Path>) -> io::Result<File> {
    File::options().append(true).create(path.is_some()).open(path.unwrap_or(Path::new("/dev/null")))
}

/// Runs `service` in a process of its own. Returns 0 as soon as it calls what it is given, and its exit code if it ends
/// before; in the service's process it returns the service's code in its own time.
///
/// Only for a process that has one thread.
pub fn run(log: &File, service: impl FnOnce(&mut dyn FnMut()) -> i32) -> io::Result<i32> {
    let (mut told, tells) = io::pipe()?;
    // SAFETY: no other thread runs, as the caller sees to, so that no lock can be held in the child for ever.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(told);
            let mut tells = Some(tells);
            return Ok(service(&mut || ready(log, tells.take())));
        }
    };
    drop(tells);
    if told.read(&mut [0])? == 1 {
        return Ok(exit::OK);
    }
    match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => Ok(code),
        _ => Err(io::Error::other("the server was killed")),
    }
}

/// Lets go of everything that belongs to whoever ran the command, and tells it.
fn ready(log: &File, tells: Option<io::PipeWriter>) {
    let _ = setsid();
    let _ = rustix::process::chdir("/");
    let nowhere = File::open("/dev/null");
    let _ = nowhere.map(nix::unistd::dup2_stdin);
    let _ = nix::unistd::dup2_stdout(log);
    let _ = nix::unistd::dup2_stderr(log);
    // If nobody listens any more, the mount serves all the same.
    let _ = tells.map(|mut tells| tells.write_all(&[1]));
}
