//! Azure Key Vault (or Managed HSM) and the Entra token endpoint, in this process, for tests.
//!
//! Keys have versions with material of their own; wrapping is real RSA-OAEP and AES key wrap. That it speaks as the vendor does is
//! shown by the vendor's own Python client, which passes against it. Invariant: every rule of time goes by one clock, which a
//! test moves; nothing but a snapshot outlives the server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it serves tests: what cannot go on ends them")]

mod clock;
mod failure;
mod http;
mod issuer;
mod key;
mod material;
mod principal;
mod server;
mod sign_in;
mod token;
mod vault;

pub use http::LogEntry;
pub use issuer::Issuer;
pub use material::Material;
pub use principal::{Application, FederatedCredential, Permission};
pub use server::{Config, Emulator, Product, SeedKey};
