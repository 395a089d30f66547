//! The command line program `cofferdam`: root keys as their owner sees them.
//!
//! What is checked, how a finding is worded and how it is printed is pure; the edges are `cluster` (the API server), `given` (files and
//! the terminal) and the connections of the crate `kms`. Invariant: no secret is printed, and what is not known is never called well.

mod args;
mod audit;
mod check;
mod cluster;
mod failure;
mod given;
mod key;
mod program;
mod source;
mod subject;
mod table;
mod time;

pub use program::run;
