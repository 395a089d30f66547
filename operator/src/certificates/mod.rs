//! The operator's own certificate authority and serving certificate: made, rotated, published.
//!
//! Invariant: a certificate is served only once its authority has been published for a while, and an authority stays published
//! until it expires, so that no client meets a certificate that it cannot check.

mod ca_bundle;
mod issue;
pub mod keeper;
mod material;
pub mod publish;
mod secret;

pub use keeper::Keeper;
