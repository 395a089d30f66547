//! Builds a provider and its decorators, in the one right order.
//!
//! Invariant: no call is made here; a wrong configuration shows at once, a wrong credential at the first call.

use std::sync::Arc;
use std::time::Duration;

use contract::config::Provider;
use secrecy::SecretString;

use crate::admin::KmsAdmin;
use crate::aws::{self, Aws};
use crate::azure::{self, Azure};
use crate::config::{ConfigError, ProviderConfig};
use crate::decorate::{AuditedAdmin, decorate};
use crate::google::{self, Google};
use crate::key_protect::{self, KeyProtect};
use crate::observe::{Auditor, Logged, Observer, Unobserved};
#[cfg(feature = "pkcs11")]
use crate::pkcs11::{self, Pkcs11};
use crate::service::Kms;
use crate::transit::{self, Transit};

/// How a connection behaves.
#[derive(Clone)]
pub struct Options {
    /// Hard maximal age of a cached data key since the KMS last unwrapped it; zero: nothing is cached.
    pub cache_ttl: Duration,
    /// Data keys that may be cached at once.
    pub cache_entries: usize,
    /// How much longer a cached key serves while the KMS gives no answer; a refusal overrides it.
    pub outage_grace: Duration,
    /// Limit of one attempt, from connecting to the last byte.
    pub attempt_timeout: Duration,
    /// Limit of connecting, TLS included.
    pub connect_timeout: Duration,
    /// Deadline of a call that brings none.
    pub default_deadline: Duration,
    /// Calls to the KMS under way at once.
    pub max_concurrency: usize,
    /// When a failed call is tried again.
    pub retry: RetryPolicy,
    /// When the KMS is left alone.
    pub breaker: BreakerPolicy,
    /// Time between two denials that make a refusal; zero: the first one counts.
    pub denial_window: Duration,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// Who keeps the audit trail.
    pub auditor: Arc<dyn Auditor>,
}

/// Full-jitter exponential backoff: before try n the wait is random between 0 and `base` · 2^(n-1), at most `cap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all; 1: no retry.
    pub attempts: u32,
    /// The first backoff's upper bound.
    pub base: Duration,
    /// Every backoff's upper bound.
    pub cap: Duration,
    /// Retries saved up for bad times; each call adds a tenth, each retry takes one.
    pub budget: u32,
}

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before one call may probe.
    pub open_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_ttl: Duration::from_mins(5),
            cache_entries: 4096,
            outage_grace: Duration::ZERO,
            attempt_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            default_deadline: Duration::from_secs(15),
            max_concurrency: 16,
            retry: RetryPolicy::default(),
            breaker: BreakerPolicy::default(),
            denial_window: Duration::from_secs(2),
            observer: Arc::new(Unobserved),
            auditor: Arc::new(Logged),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 4, base: Duration::from_millis(100), cap: Duration::from_secs(10), budget: 20 }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 8, open_for: Duration::from_secs(5) }
    }
}

/// A KMS for the data plane, with all decorators. Makes no call.
pub fn connect(config: &ProviderConfig, options: &Options) -> Result<Arc<dyn Kms>, ConfigError> {
    build(config, None, options)
}

/// The same, where the credential's secret (API key, token, secret id or service account token) is at hand and its file is not read.
/// Build anew when the secret changes.
pub fn connect_with_secret(
    config: &ProviderConfig,
    secret: SecretString,
    options: &Options,
) -> Result<Arc<dyn Kms>, ConfigError> {
    build(config, Some(secret), options)
}

/// The owner's side, with an admin credential: `secret`, or where absent the configured file. No decorator repeats
/// its calls.
pub fn connect_admin(
    config: &ProviderConfig,
    secret: Option<SecretString>,
    options: &Options,
) -> Result<Arc<dyn KmsAdmin>, ConfigError> {
    let (admin, name): (Arc<dyn KmsAdmin>, _) = match &config.provider {
        Provider::Aws(spec) => (Arc::new(Aws::new(spec, config, secret, options)?), aws::PROVIDER),
        Provider::Azure(spec) => (Arc::new(Azure::new(spec, config, secret, options)?), azure::PROVIDER),
        Provider::Google(spec) => (Arc::new(Google::new(spec, config, secret, options)?), google::PROVIDER),
        Provider::KeyProtect(spec) => {
            (Arc::new(KeyProtect::new(spec, config, secret, options)?), key_protect::PROVIDER)
        }
        #[cfg(feature = "pkcs11")]
        Provider::Pkcs11(spec) => (Arc::new(Pkcs11::new(spec, config, secret, options)?), pkcs11::PROVIDER),
        #[cfg(not(feature = "pkcs11"))]
        Provider::Pkcs11(_) => return Err(ConfigError::NotBuilt { provider: "pkcs11" }),
        Provider::Transit(spec) => {
            (Arc::new(Transit::new(spec, config, secret, options)?), transit::PROVIDER)
        }
    };
    Ok(Arc::new(AuditedAdmin::new(admin, name, &options.observer, &options.auditor)))
}

fn build(
    config: &ProviderConfig,
    secret: Option<SecretString>,
    options: &Options,
) -> Result<Arc<dyn Kms>, ConfigError> {
    let provider: Arc<dyn Kms> = match &config.provider {
        Provider::Aws(spec) => Arc::new(Aws::new(spec, config, secret, options)?),
        Provider::Azure(spec) => Arc::new(Azure::new(spec, config, secret, options)?),
        Provider::Google(spec) => Arc::new(Google::new(spec, config, secret, options)?),
        Provider::KeyProtect(spec) => Arc::new(KeyProtect::new(spec, config, secret, options)?),
        #[cfg(feature = "pkcs11")]
        Provider::Pkcs11(spec) => Arc::new(Pkcs11::new(spec, config, secret, options)?),
        #[cfg(not(feature = "pkcs11"))]
        Provider::Pkcs11(_) => return Err(ConfigError::NotBuilt { provider: "pkcs11" }),
        Provider::Transit(spec) => Arc::new(Transit::new(spec, config, secret, options)?),
    };
    Ok(decorate(provider, options))
}
