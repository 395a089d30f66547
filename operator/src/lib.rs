//! The operator: admission webhooks, certificates, stores of what is declared, and the controllers over them.
//!
//! Invariant: it knows keys by name and version only; no DEK and no data pass through it.

mod causes;
pub mod certificates;
pub mod check_in;
mod claims;
pub mod controllers;
mod credentials;
pub mod health;
pub mod https;
pub mod injection_config;
pub mod leader;
pub mod metrics;
mod profile_use;
pub mod rewrap;
pub mod settings;
mod short_hash;
pub mod stores;
pub mod webhook;

/// The operator's own service account token for the API server.
pub const API_TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The operator's own service account token for the KMS's identity service, where the chart projects one.
pub const IDENTITY_TOKEN_FILE: &str = "/var/run/secrets/cofferdam/identity/token";
/// The directory in which that token lies.
pub const IDENTITY_TOKEN_DIR: &str = "/var/run/secrets/cofferdam/identity";
