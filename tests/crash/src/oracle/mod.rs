//! What an application may find after a crash.
//!
//! Invariant: it is computed from the workload alone, by the promises of docs/semantics.md; nothing here knows how the
//! filesystem stores anything.

mod check;
mod content;
mod model;

pub use check::{check, check_served};
pub use model::{Effect, Expect, Kind, Model, Span, Tree, Window, written};
