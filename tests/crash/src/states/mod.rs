//! What a crash may leave of a recording.
//!
//! Invariant: each state is one that the model of docs/crash-model.md allows; what was synced is in all of them.

mod choose;
mod file;
mod journal;
mod lay;

pub use choose::{Crash, State};
pub use lay::lay;
