//! Rewrap Jobs for volumes that no pod mounts: when one runs (`plan`), and what it is (`job`).
//!
//! Invariant: pure; the volume controller does what is planned here.

pub mod job;
pub mod plan;
pub mod window;

/// What Jobs are made of, beside the custom resources.
pub use crate::settings::InjectionSettings as Settings;
