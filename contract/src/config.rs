//! The configuration that the webhook (or the rewrap scheduler) hands to a sidecar (or a Job), as JSON in one
//! environment variable.
//!
//! Invariant: it holds no secret, and is a function of the custom resources alone, so that injecting twice changes nothing.

use serde::{Deserialize, Serialize};

pub use crate::credential::Credential;
pub use crate::provider::{AwsKms, AzureKeyVault, Called, GoogleKms, KeyProtect, Pkcs11, Provider, Transit};

/// The version of [`SidecarConfig`] that this code writes and reads.
pub const CONFIG_VERSION: u16 = 1;

/// All that a sidecar or a rewrap Job must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarConfig {
    /// [`CONFIG_VERSION`]; a sidecar refuses any other.
    pub version: u16,
    /// `https://…:8443`, without path; empty: no check-in (offline use).
    pub operator_url: String,
    /// Profiles that the volumes refer to by index.
    pub profiles: Vec<Profile>,
    /// Volumes to serve or to sweep.
    pub volumes: Vec<Volume>,
}

/// A root key and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Namespace of the `KmsProfile`.
    pub namespace: String,
    /// Name of the `KmsProfile`.
    pub name: String,
    /// Where the root key lives.
    pub provider: Provider,
    /// How to authenticate.
    pub credential: Credential,
    /// PEM file with the certificate authorities of the KMS; absent: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// `http://HOST:PORT` of a proxy that leads to the KMS; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Seconds between two looks at the key's state, before jitter (at most 30 for a sidecar).
    pub poll_seconds: u32,
    /// Seconds that an unwrapped key may be used without another unwrap.
    pub key_ttl_seconds: u32,
    /// Seconds beyond the TTL that keys go on serving while the KMS is unreachable; a refusal overrides it.
    #[serde(default)]
    pub outage_grace_seconds: u32,
}

/// A volume of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The pod volume's name; the raw volume is mounted at `RAW_DIR/<name>`.
    pub name: String,
    /// The claim's name.
    pub claim: String,
    /// Name of the `StorageBinding` that protects it, for the audit trail; absent where that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Index into [`SidecarConfig::profiles`].
    pub profile: usize,
    /// How DEKs of new files are wrapped.
    pub wrapping: Wrapping,
    /// Who owns files on the backing volume; fixed when the volume is created.
    pub ownership: Ownership,
    /// No holes, and zeroed blocks are refused; fixed when the volume is created.
    #[serde(default)]
    pub strict: bool,
    /// Files are sealed at the size at which they are left; fixed when the volume is created.
    #[serde(default)]
    pub seal: bool,
    /// The pod mounts it read-only everywhere.
    #[serde(default)]
    pub read_only: bool,
    /// What happens to requests while the key is refused.
    pub suspension: Suspension,
    /// Names in the volume's root that belong to the storage itself.
    #[serde(default)]
    pub storage_entries: Vec<String>,
    /// Ids of other volumes whose files may be opened here (restored from a backup).
    #[serde(default)]
    pub accepted_origins: Vec<String>,
    /// The volume id that the volume had when it was last seen; absent: never seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_volume_id: Option<String>,
    /// Files that a sweep may rewrap in a second; 0: no limit.
    #[serde(default)]
    pub sweep_files_per_second: u32,
    /// A Job: write nothing, and only look whether the volume is empty; the key version that is current. Absent: sweep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_for: Option<String>,
}

/// How DEKs are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wrapping {
    /// The KMS wraps each DEK.
    Direct,
    /// The KMS wraps a group key, which wraps DEKs.
    #[default]
    Grouped,
}

/// Who owns files on the backing volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// The backing owner and mode are the file's: the sidecar has capabilities.
    Native,
    /// Owner and mode are kept in an xattr: the sidecar has none.
    Virtual,
}

/// What happens to requests while the key is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suspension {
    /// They fail with ENOKEY.
    #[default]
    Error,
}

/// What the sidecar's probes read from `names::STATUS_FILE`, replaced atomically at each change and every 10 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Every volume's data is served.
    pub ready: bool,
    /// Why it is not ready, for a person.
    pub message: String,
}
