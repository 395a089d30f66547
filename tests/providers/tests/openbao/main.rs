//! Transit against a real OpenBao server: every check of the suite, and what only this vendor has.
#![allow(clippy::unwrap_used, clippy::panic)]

mod identity;
mod server;

providers::for_each_check!(providers::conformance_tests!(providers::OpenBao));
