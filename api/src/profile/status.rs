//! The status of a `KmsProfile`: what the operator sees of the root key, and what still needs its versions.
//!
//! Invariant: written by the operator alone; what is not known is absent or `Unknown`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RotatedBy;

/// What the operator sees of the root key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct KmsProfileStatus {
    /// `Ready`, `Unreachable`, and `RotationManaged` where rotation is.
    #[serde(default)]
    #[x_kube(merge_strategy = crate::condition::one_of_each_type())]
    pub conditions: Vec<Condition>,
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Enabled`, `Disabled`, `Expired`, `PendingDeletion`, `Destroyed`, `PendingImport` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_state: Option<String>,
    /// The key's id, where the spec names an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The current key version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    /// When the current version was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Time>,
    /// When the KMS last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_poll: Option<Time>,
    /// All key versions, newest first, with what still needs them.
    #[serde(default)]
    pub versions: Vec<VersionStatus>,
    /// What is known of the managed rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
}

/// What is known of a managed rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// Who rotates.
    pub by: RotatedBy,
    /// When the next rotation is due; the KMS takes up to a day more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,
    /// When the operator last rotated the root key, or set its policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// The operator tries nothing before, because the last try failed or came too early. A change of the spec overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Time>,
}

/// A key version and what still needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Its id at the KMS.
    pub id: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// Files of all known volumes whose current slot it wraps.
    #[serde(default)]
    pub files: u64,
    /// Volumes whose counts are not known.
    #[serde(default)]
    pub unknown_volumes: u64,
    /// VolumeSnapshots that may hold files that it wraps.
    #[serde(default)]
    pub older_snapshots: u64,
    /// Nothing known to this cluster still needs it: no volume, and no VolumeSnapshot of one.
    #[serde(default)]
    pub retirable: bool,
    /// Why it is retirable or is not, as a PascalCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What keeps it from being retirable, each as `EncryptedVolume namespace/name` or `VolumeSnapshot namespace/name`;
    /// the first 50.
    #[serde(default)]
    pub blockers: Vec<String>,
}
