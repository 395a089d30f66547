//! A mapped file that is touched for ever. The touch happens in a forked child, whose death by SIGBUS is reported.
//!
//! Invariant: the mapping is made once, at the start: what is observed later is the kernel's page, not a new open.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use serde_json::json;

use crate::{event, now};

const LENGTH: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not zero");

pub fn run(path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, vec![b'm'; LENGTH.get()])?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let flags = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: a fresh mapping at an address that the kernel chooses; only `touch` uses it.
    let page = unsafe { mmap(None, LENGTH, flags.0, flags.1, &file, 0)? }.as_ptr().cast::<u8>();
    let mut last = String::new();
    loop {
        let outcome = touch(page)?;
        if outcome != last {
            event(&json!({"at": now(), "event": outcome}));
        }
        last = outcome;
        sleep(Duration::from_millis(500));
    }
}

/// Reads the page's first byte in a child: `ok`, or the name of the signal that ended the child.
fn touch(page: *mut u8) -> anyhow::Result<String> {
    // SAFETY: the process has one thread, and the child only reads memory and exits.
    match unsafe { fork()? } {
        ForkResult::Child => {
            // SAFETY: the mapping lives as long as the process; a page that cannot be read is SIGBUS, which is the point.
            let byte = unsafe { page.read_volatile() };
            // SAFETY: _exit ends the child without running anything of the parent.
            unsafe { libc::_exit(i32::from(byte != b'm')) }
        }
        ForkResult::Parent { child } => Ok(match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => "ok".into(),
            WaitStatus::Exited(..) => "wrong bytes".into(),
            WaitStatus::Signaled(_, Signal::SIGBUS, _) => "SIGBUS".into(),
            other => format!("{other:?}"),
        }),
    }
}
