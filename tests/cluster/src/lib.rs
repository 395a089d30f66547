//! The stage on which the story is told: a running cluster, a KMS beside it, a namespace for each test.
//!
//! Invariant: a test touches only its own namespace, volumes and root key, so that a failure speaks of one thing.

pub mod manifests;
pub mod namespace;
pub mod plaintext;
pub mod pods;
pub mod raw;
pub mod root_key;
pub mod trusted;
pub mod wait;

pub use namespace::Stage;
pub use root_key::RootKey;
pub use wait::{soon, until};
