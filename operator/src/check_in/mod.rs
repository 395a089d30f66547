//! The check-in server: what sidecars and Jobs report, and what they are told. Any replica may serve it.
//!
//! Invariant: who speaks is what the API server says of the token; a report counts only for claims that this pod mounts.

mod allowance;
mod evict;
pub mod identity;
mod merge;
mod metrics;
mod pod_condition;
mod receive;
#[cfg(test)]
pub mod sample;
mod server;

pub use metrics::Metrics;
pub use server::{CheckIns, router};
