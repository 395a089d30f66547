//! What the process does before it holds a key: no core dumps, no ptrace by its equals, memory that is not swapped.
//!
//! Invariant: called first in every program that will hold keys; what the limits do not allow is logged, not fatal.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and ptrace, and locks memory as far as the limit allows.
pub fn harden() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "cannot forbid core dumps and tracing");
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "cannot set the limit of core dumps to zero");
    }
    lock_memory();
}

/// Locks pages as they are touched. Without the right to lock everything this would make later allocations fail, so
/// it is tried only where there is no limit.
fn lock_memory() {
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    if !unlimited {
        tracing::info!(
            "memory is not locked: the limit of locked memory is too small; nodes should have no swap"
        );
        return;
    }
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        tracing::info!(%error, "memory is not locked; nodes should have no swap");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn a_hardened_process_leaves_no_core_dump() {
        super::harden();
        let status = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = status.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(line.split_whitespace().nth(4), Some("0"), "{line}");
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
    }
}
