//! What Cofferdam's programs say to each other: names, configuration, messages, exit codes.
//!
//! Invariant: plain data and serde only, so that every program and every test can depend on it.

pub mod audit;
pub mod check_in;
pub mod config;
pub mod control;
mod credential;
pub mod exit;
pub mod gate;
pub mod names;
mod provider;
