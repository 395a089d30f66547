//! The story, on a real cluster: each test is one of its lines.
//!
//! Run by `cargo xtask test`, inside the cluster's network, after the chart is installed: two at a time, those of `alone` one by one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod alone;
mod applications;
mod audit;
mod bad_input;
mod content;
mod faults;
mod policies;
mod profile;
mod raw_access;
mod rotation;
mod suspension;
