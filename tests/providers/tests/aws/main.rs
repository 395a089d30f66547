//! AWS KMS passes the suite, against its emulator; and what only AWS has.
#![allow(clippy::unwrap_used)]

mod client;
mod identity;
mod service;

providers::for_each_check!(providers::conformance_tests!(providers::Aws));
