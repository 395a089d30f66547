//! The encrypted filesystem against a reference filesystem in memory.
//!
//! Invariant: after every step the whole tree (names, types, modes, owners, sizes, contents, link counts, extended
//! attributes, times that were set) is the same in both, and on the storage. A failure is shrunk; its seed is kept in
//! `regressions.txt`, its steps in `regressions.rs`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod compare;
mod data_steps;
mod name_steps;
mod order;
mod racing;
mod real;
mod reference;
mod reference_names;
mod regressions;
mod seed;
mod sequences;
mod steps;
mod threads;
mod world;
