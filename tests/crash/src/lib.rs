//! Crashes of the encrypted filesystem at every operation of its storage, in process.
//!
//! Invariant: the filesystem under test is the real one. It works on a storage of ours ([`disk`]), which records each
//! operation; [`states`] makes what a crash may leave of them; [`oracle`] says what of that an application may find.
//!
//! The model is described in docs/crash-model.md.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "nothing but tests use it, and a broken tool must end them"
)]

pub mod disk;
pub mod explore;
pub mod faults;
pub mod oracle;
pub mod states;
pub mod table;
pub mod work;
