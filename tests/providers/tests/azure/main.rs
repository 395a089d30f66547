//! Azure Key Vault against an emulator: every check of the suite, and what only this vendor has.
#![allow(clippy::unwrap_used, clippy::panic)]

mod vault;

providers::for_each_check!(providers::conformance_tests!(providers::Azure));
