//! The processes behind the leases.
//!
//! Invariant: a process is known by a handle that the kernel made when it connected, never by its number; only one that was
//! proven to be its pod's sidecar is known at all.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Signal, pidfd_send_signal};

use super::{LeaseId, Sessions};

/// Handles by lease.
#[derive(Default)]
pub struct Holders(Mutex<HashMap<LeaseId, OwnedFd>>);

impl Holders {
    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a process: its connection has ended.
    pub fn forget(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    /// Ends a process that hangs, so that kubelet starts its container anew and the new one says that the session is lost.
    pub fn end(&self, lease: LeaseId) -> rustix::io::Result<()> {
        match self.lock().get(&lease) {
            Some(process) => pidfd_send_signal(process, Signal::KILL),
            None => Err(rustix::io::Errno::SRCH),
        }
    }
}

impl Sessions {
    /// `process` is proven to be the sidecar that holds, or will hold, this lease.
    pub fn proven(&self, lease: LeaseId, process: OwnedFd) {
        self.holders.lock().insert(lease, process);
    }
}
