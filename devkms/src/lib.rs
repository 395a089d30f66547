//! A KMS for development that speaks IBM Key Protect's API. Invariant: what it answers, the real service could have answered; where the
//! real answer is not known, [`config::Rules`] lets a test choose.
//!
//! Not for production: root keys lie in memory and in the store in the clear, and the control port asks nobody who they are.
//!
//! ```no_run
//! use devkms::{Config, Grant, Role, Seed, Server};
//! let seed = Seed::one_key("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
//!     .api_key("data", "an-api-key", Grant::role(Role::Reader));
//! let server = Server::start(Config::ephemeral(seed))?;
//! println!("{} and {}", server.url(), server.control_url());
//! # Ok::<(), devkms::StartError>(())
//! ```

mod access;
mod audit;
mod clock;
pub mod config;
mod error;
mod http;
mod keys;
mod metrics;
mod ops;
mod route;
pub mod seed;
mod server;
mod service;
mod store;
mod tls;

pub use access::Grant;
pub use access::roles::Role;
pub use access::service_account::TrustedProfile;
pub use audit::Event;
pub use config::{Config, Rules, Tls};
pub use http::faults::{Fault, Kind as FaultKind};
pub use metrics::Tally;
pub use seed::{Seed, SeedError};
pub use server::{Server, StartError};
