//! The admission webhooks: injection into pods, and warnings about what will not work.
//!
//! Invariant: no API writes, no state of its own; a request that cannot be judged is refused, never waved through.

pub mod facts;
pub mod injection;
pub mod review;
pub mod server;
pub mod warnings;
