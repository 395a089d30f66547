//! The encrypted filesystem of a volume, its keys, the sweep that rewraps them, and the programs around it.
//!
//! Invariant: nothing here knows Kubernetes; what a sidecar must know comes with its configuration.

pub mod check_in;
pub mod cli;
pub mod fs;
pub mod fuse;
pub mod gate;
pub mod hardening;
pub mod job;
pub mod keys;
pub mod mount;
pub mod mount_program;
pub mod offline;
pub mod profile;
pub mod serve;
pub mod sweep;
pub mod volume;

#[cfg(test)]
mod testing;
