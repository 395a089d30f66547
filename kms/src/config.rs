//! Where a root key lives and how to authenticate, as data.
//!
//! Invariant: it names files that hold secrets, and holds none itself.

use contract::config::{Credential, Provider};
use serde::{Deserialize, Serialize};

use crate::key::KeyRef;

/// A provider, the root key in it, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderConfig {
    /// Where the root key lives.
    pub provider: Provider,
    /// How to authenticate; a credential of another provider is refused.
    pub credential: Credential,
    /// Certificate authorities that alone are trusted; absent: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// `http://HOST:PORT` of a proxy that leads to the service; absent: there is none, whatever the environment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Development only: `http` is accepted for loopback addresses.
    #[serde(default)]
    pub allow_loopback_http: bool,
}

impl ProviderConfig {
    /// A root key that is reached directly, by https, with the system's authorities.
    pub fn new(provider: Provider, credential: Credential) -> Self {
        Self { provider, credential, ca: None, proxy: None, allow_loopback_http: false }
    }

    /// The same, but of a service at a loopback address that speaks http too: for tests and development.
    #[must_use]
    pub fn at_loopback(self) -> Self {
        Self { allow_loopback_http: true, ..self }
    }

    /// The root key that this configuration names.
    pub fn key_ref(&self) -> KeyRef {
        KeyRef(self.provider.root_key().into())
    }
}

/// PEM certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum CaSource {
    /// A file, read again whenever it changes.
    File {
        /// Absolute path.
        path: String,
    },
    /// The certificates themselves.
    Pem {
        /// One or more PEM blocks.
        pem: String,
    },
}

/// Why a configuration cannot work; what is wrong shows without any call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not an https URL of a host alone.
    #[error("{field} is not an https url without path: {value}")]
    Endpoint {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A host that is none of the service's.
    #[error("{field} is not an address of the service: {value}")]
    Host {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Empty, or has characters that cannot stand there.
    #[error("{field} is empty or has characters that it cannot have")]
    Field {
        /// The field's name.
        field: &'static str,
    },
    /// Not the URL of a proxy.
    #[error("proxy is not http://HOST:PORT")]
    Proxy,
    /// A credential of another provider.
    #[error("the credential is not one of this provider")]
    Credential,
    /// This program was built without the provider.
    #[error("this program was built without {provider}")]
    NotBuilt {
        /// Its name.
        provider: &'static str,
    },
    /// Not PEM certificates.
    #[error("ca bundle holds no usable certificate")]
    Ca,
    /// The TLS stack cannot be set up.
    #[error("cannot set up tls")]
    Tls,
}
