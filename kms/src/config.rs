//! Where a root key lives and how to authenticate, as data.
//!
//! Invariant: it names files that hold secrets, and holds none itself.

use serde::{Deserialize, Serialize};

use crate::key::KeyRef;

/// A provider and the root key in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum ProviderConfig {
    /// IBM Key Protect.
    KeyProtect(KeyProtectConfig),
    /// HashiCorp Vault or OpenBao Transit.
    Transit(TransitConfig),
}

impl ProviderConfig {
    /// The root key that this configuration names.
    pub fn key_ref(&self) -> KeyRef {
        match self {
            Self::KeyProtect(config) => KeyRef(config.root_key.clone()),
            Self::Transit(config) => KeyRef(config.key.clone()),
        }
    }
}

/// IBM Key Protect: public, private and Dedicated endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyProtectConfig {
    /// `https://REGION.kms.cloud.ibm.com`, without path.
    pub endpoint: String,
    /// `https://iam.cloud.ibm.com`, without path.
    pub iam_endpoint: String,
    /// The instance's GUID.
    pub instance: String,
    /// Id or alias of the root key.
    pub root_key: String,
    /// Key ring of the root key; absent: the service searches all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ring: Option<String>,
    /// How to authenticate.
    pub credential: CredentialSource,
    /// Certificate authorities that alone are trusted; absent: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// Development only: `http` is accepted for loopback addresses.
    #[serde(default)]
    pub allow_loopback_http: bool,
}

/// How to authenticate with IAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum CredentialSource {
    /// An API key in a file, read again whenever it changes.
    ApiKeyFile {
        /// Absolute path.
        path: String,
    },
    /// A trusted profile, by a projected service account token.
    TrustedProfile {
        /// Id of the trusted profile.
        profile_id: String,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
}

/// A Transit engine of HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransitConfig {
    /// `https://HOST:8200`, without path.
    pub endpoint: String,
    /// Namespace of engine and login; absent: the root namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount path of the engine, such as `transit`.
    pub mount: String,
    /// Name of the root key.
    pub key: String,
    /// How to authenticate.
    pub credential: TransitCredential,
    /// Certificate authorities that alone are trusted; absent: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// Development only: `http` is accepted for loopback addresses.
    #[serde(default)]
    pub allow_loopback_http: bool,
}

/// How to authenticate with Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TransitCredential {
    /// A token in a file, read again whenever it changes, and prolonged where it may be.
    TokenFile {
        /// Absolute path.
        path: String,
    },
    /// An AppRole.
    AppRole {
        /// Mount path of the auth method, such as `approle`.
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// Absolute path of the secret id, read again whenever it changes.
        secret_id_path: String,
    },
    /// A projected service account token, shown to the auth method `kubernetes` or `jwt`.
    Kubernetes {
        /// Mount path of the auth method, such as `kubernetes`.
        mount: String,
        /// The role's name.
        role: String,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
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
    /// Empty, or has characters that cannot stand there.
    #[error("{field} is empty or has characters that it cannot have")]
    Field {
        /// The field's name.
        field: &'static str,
    },
    /// A credential of another provider.
    #[error("the credential is not one of this provider")]
    Credential,
    /// Not PEM certificates.
    #[error("ca bundle holds no usable certificate")]
    Ca,
    /// The TLS stack cannot be set up.
    #[error("cannot set up tls")]
    Tls,
}
