//! The program as it is called: what it prints, how it ends, and that no secret gets out.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;
mod changes;
mod check;
mod cluster;
mod generated;
mod listing;
mod openbao;
mod run;
