//! Test suites of others and real programs on an encrypted mount. `cargo xtask test --only suites` installs what they need
//! and runs them; each prints one line with its figures.
//!
//! Invariant: a suite counts as passed only by its own word, read from what it printed and its exit code.
#![allow(clippy::unwrap_used, clippy::panic)]

mod archive;
mod fsx;
mod load;
mod pjdfstest;
mod postgres;
mod sources;
mod sqlite;
