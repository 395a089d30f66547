//! `key`: root keys as their owner sees them, and what changes them.
//!
//! Invariant: nothing is changed without a yes, and what is said of a key afterwards is what the KMS says then. The import of key
//! material of one's own is one more module here, and one more command in `args`.

mod affected;
mod change;
mod list;

pub use change::{Change, change};
pub use list::list;
