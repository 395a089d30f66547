//! `StorageBinding`: which claims a profile protects, and how. Written by the application team.
//!
//! Invariant: a claim is protected by at most one binding; deleting a binding never opens a volume.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Claims that a profile protects.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cofferdam.io",
    version = "v1alpha1",
    kind = "StorageBinding",
    namespaced,
    crates(kube_core = "::kube_core"),
    status = "StorageBindingStatus",
    shortname = "sbind",
    category = "cofferdam",
    doc = "Which claims of this namespace are encrypted under which KmsProfile, and how.",
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.profile.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Suspended",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Suspended')].status"
    ),
    printcolumn(name = "Volumes", type_ = "integer", json_path = ".status.volumes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct StorageBindingSpec {
    /// The profile whose root key protects the claims.
    pub profile: ProfileReference,
    /// The claims: those that match the selector, and those named.
    pub claims: ClaimSelector,
    /// `Grouped` (default): the KMS wraps a group key that wraps DEKs. `Direct`: the KMS wraps each DEK.
    #[serde(default)]
    pub wrapping: Wrapping,
    /// Make no holes, and refuse zeroed blocks; fixed when a volume is created. Default: false.
    #[serde(default)]
    pub strict: bool,
    /// Seal files at the size at which they are left; fixed when a volume is created. Default: false.
    #[serde(default)]
    pub seal: bool,
    /// What happens to requests while the key is refused.
    #[serde(default)]
    pub suspension: Suspension,
    /// Rewrapping after a rotation.
    #[serde(default)]
    pub rewrap: Rewrap,
    /// Entries of a volume's root that belong to the storage itself, such as `.snapshot`: hidden, and not plaintext.
    #[serde(default)]
    pub storage_entries: Vec<String>,
    /// Ids of other volumes whose files may be opened here, after a restore.
    #[serde(default)]
    pub accepted_origins: Vec<String>,
    /// Resources of the sidecar; requests must equal limits. Default: cpu 500m, memory 128Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar_resources: Option<ResourceRequirements>,
    /// Secrets added to the pod's `imagePullSecrets`, for the sidecar's image.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
}

/// A `KmsProfile` by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileReference {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its namespace. Default: the binding's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Claims of the binding's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.selector) || (has(self.names) && size(self.names) > 0)").message("select claims by selector, by names, or both"))]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct ClaimSelector {
    /// Claims with these labels; an empty selector matches every claim of the namespace. For a pod's own ephemeral
    /// claims the labels of their template count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Claims with these names.
    #[serde(default)]
    pub names: Vec<String>,
}

/// How DEKs are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Wrapping {
    /// The KMS wraps a group key; the group key wraps DEKs.
    #[default]
    Grouped,
    /// The KMS wraps each DEK.
    Direct,
}

/// Behaviour while the key is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// `Error` (default): requests fail with ENOKEY. `Freeze` is reserved; this version refuses it.
    #[serde(default)]
    pub mode: SuspensionMode,
}

/// See [`Suspension::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SuspensionMode {
    /// Requests fail with ENOKEY.
    #[default]
    Error,
    /// Requests wait; not supported by this version.
    Freeze,
}

/// When and how detached volumes are rewrapped, and how fast a sidecar sweeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Rewrap {
    /// Daily window in UTC in which Jobs may start, `HH:MM-HH:MM`. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$')").message("must look like 22:00-05:00"))]
    pub window: Option<String>,
    /// Jobs of this binding that may run at once. Default: 2.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 100))]
    pub parallelism: u32,
    /// Seconds over which the starts of Jobs are spread. Default: 60.
    #[serde(default = "default_stagger_seconds")]
    pub stagger_seconds: u32,
    /// Times that a Job's pod is tried again. Default: 6.
    #[serde(default = "default_backoff_limit")]
    pub backoff_limit: u32,
    /// Finished Jobs kept for each volume. Default: 3.
    #[serde(default = "default_history_limit")]
    pub history_limit: u32,
    /// Files that a sweep may rewrap in a second; 0: no limit. Default: 0.
    #[serde(default)]
    pub files_per_second: u32,
    /// Service account that Jobs run as: a KMS tells them by it from the application, where the profile's rewrap credential is a
    /// trusted profile. Default: `default`.
    #[serde(default = "default_service_account_name")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("must be the name of a service account"))]
    pub service_account_name: String,
}

impl Default for Rewrap {
    fn default() -> Self {
        Self {
            window: None,
            parallelism: default_parallelism(),
            stagger_seconds: default_stagger_seconds(),
            backoff_limit: default_backoff_limit(),
            history_limit: default_history_limit(),
            files_per_second: 0,
            service_account_name: default_service_account_name(),
        }
    }
}

fn default_parallelism() -> u32 {
    2
}

fn default_stagger_seconds() -> u32 {
    60
}

fn default_backoff_limit() -> u32 {
    6
}

fn default_history_limit() -> u32 {
    3
}

fn default_service_account_name() -> String {
    "default".into()
}

/// What has become of the binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct StorageBindingStatus {
    /// `Ready`, `Suspended`.
    #[serde(default)]
    #[x_kube(merge_strategy = crate::condition::one_of_each_type())]
    pub conditions: Vec<Condition>,
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Claims that it protects now.
    #[serde(default)]
    pub volumes: u64,
}
