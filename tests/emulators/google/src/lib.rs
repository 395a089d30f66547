//! Google Cloud KMS as tests need it: keys and their versions, roles, and the three services that give tokens, over plain http.
//!
//! What it does is what Google documents; that it does it truly is shown by Google's own Python client, which runs the same calls
//! against it (`tests/conformance/google`). Invariant: nothing succeeds here that the documentation says fails: a version that is not
//! enabled opens nothing, a token that ended is good for nothing, a wrong checksum is noticed.
#![allow(clippy::unwrap_used, reason = "a lock whose holder panicked is the end of a test")]

mod access;
mod account;
mod api;
mod clock;
mod federation;
mod keys;
mod material;
mod route;
mod server;
mod status;
mod tokens;
mod world;

pub use access::{ADMIN, ENCRYPTER_DECRYPTER, VIEWER, WORKLOAD_IDENTITY_USER};
pub use account::AccountKey;
pub use federation::{Cluster, Pool};
pub use server::Server;
pub use world::{Damage, World};
