//! A token in this process, whose troubles the tests choose; and what does not need one.
#![allow(clippy::unwrap_used, clippy::panic)]

pub(super) mod fake;
mod settings;
mod wire;
