//! What the process does before it holds a key: no core dumps, no ptrace by its equals, memory that is not swapped; and as
//! many descriptors as it may have.
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
    raise_descriptors();
}

/// Each file that the application has open is a descriptor here, and runtimes begin with a soft limit for programs that use
/// `select(2)`.
fn raise_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
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
    fn a_hardened_process_may_open_as_many_files_as_its_hard_limit_says() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // As near to the limit as tests beside this one need it.
        let lower = limit.maximum.map_or(Some(1 << 20), |hard| Some(hard - 1));
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum: limit.maximum }).unwrap();
        super::harden();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }

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
