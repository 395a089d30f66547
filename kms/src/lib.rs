//! Root keys in a key management service: wrap, unwrap and rewrap data keys, and watch the root key's state.
//!
//! Programs call [`connect()`] once for each profile and hold an `Arc<dyn Kms>`: a provider inside the decorators
//! (cache, single-flight, deadline, confirmation of denials, retry, breaker, limit, audit). Each wrap is bound to
//! an [`EncCtx`]. What can change a root key is [`admin::KmsAdmin`], which only the operator, the command line and
//! tests use.
//!
//! Invariant: an outage is never reported as a refusal, and no secret appears in an error, a log or a metric.

pub mod admin;
mod auth;
mod aws;
mod azure;
mod call;
mod config;
mod connect;
mod decorate;
mod error;
mod google;
mod http;
mod key;
mod key_protect;
pub mod observe;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod place;
mod secret_text;
mod service;
mod transit;

pub use call::{CallCtx, CorrelationId, EncCtx, Op};
pub use config::{CaSource, ConfigError, ProviderConfig};
pub use connect::{BreakerPolicy, Options, RetryPolicy, connect, connect_admin, connect_with_secret};
pub use error::{ErrorContext, ErrorKind, KmsError, Outage, Result};
pub use key::{
    Caps, ContextScheme, KeyInfo, KeyRef, KeyState, KeyVersion, Origin, PlainKey, Unwrapped, VersionInfo,
    Wrapped,
};
pub use secrecy::{ExposeSecret, SecretString};
pub use service::Kms;
