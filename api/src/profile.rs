//! `KmsProfile`: a root key, where it lives, and who may use it. Written by the security team.
//!
//! Invariant: exactly one provider; no secret in the object, only references to Secrets of its own namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_core::Rule;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A root key in a KMS, and how to reach it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cofferdam.io",
    version = "v1alpha1",
    kind = "KmsProfile",
    namespaced,
    crates(kube_core = "::kube_core"),
    status = "KmsProfileStatus",
    shortname = "kmsp",
    category = "cofferdam",
    doc = "A root key in a KMS: where it lives, how to authenticate, and which namespaces may use it.",
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
    printcolumn(name = "Key", type_ = "string", json_path = ".status.keyState"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.currentVersion"),
    printcolumn(name = "Rotated", type_ = "date", json_path = ".status.rotatedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.keyProtect) ? 1 : 0) + (has(self.transit) ? 1 : 0) == 1").message("exactly one provider must be set: keyProtect or transit"))]
#[x_kube(validation = Rule::new("has(self.keyProtect) == (has(self.credentials.data.apiKeySecret) || has(self.credentials.data.trustedProfile))").message("credentials.data does not fit the provider: keyProtect takes apiKeySecret or trustedProfile; transit takes tokenSecret, appRole or kubernetes"))]
#[x_kube(validation = Rule::new("!has(self.credentials.rewrap) || has(self.keyProtect) == (has(self.credentials.rewrap.apiKeySecret) || has(self.credentials.rewrap.trustedProfile))").message("credentials.rewrap does not fit the provider: keyProtect takes apiKeySecret or trustedProfile; transit takes tokenSecret, appRole or kubernetes"))]
#[x_kube(validation = Rule::new("!has(self.credentials.admin) || has(self.keyProtect) == (has(self.credentials.admin.apiKeySecret) || has(self.credentials.admin.trustedProfile))").message("credentials.admin does not fit the provider: keyProtect takes apiKeySecret or trustedProfile; transit takes tokenSecret, appRole or kubernetes"))]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct KmsProfileSpec {
    /// IBM Key Protect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_protect: Option<KeyProtect>,
    /// HashiCorp Vault or OpenBao Transit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit: Option<Transit>,
    /// Certificate authorities of the KMS; default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Who the programs are to the KMS.
    pub credentials: Credentials,
    /// Namespaces, beside the profile's own, whose bindings may use it. A Secret is never copied there: they need a
    /// trusted profile or `kubernetes`. Default: none.
    #[serde(default)]
    pub allowed_namespaces: Vec<String>,
    /// Seconds between two looks at the root key, ± 20 %. Default: 60.
    #[serde(default = "default_poll_seconds")]
    #[schemars(range(min = 5, max = 3600))]
    pub poll_seconds: u32,
    /// Seconds that an unwrapped key may be used without asking the KMS again. Default: 300.
    #[serde(default = "default_key_ttl_seconds")]
    #[schemars(range(min = 10, max = 86400))]
    pub key_ttl_seconds: u32,
    /// Seconds beyond the TTL that cached keys go on serving while the KMS is unreachable. A refusal overrides it. Default: 0.
    #[serde(default)]
    #[schemars(range(max = 86400))]
    pub outage_grace_seconds: u32,
    /// Rotation of the root key. Default: only observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// What holds for each address of a KMS.
fn https_only() -> Rule {
    Rule::new("self.startsWith('https://')").message("must be an https URL")
}

fn default_poll_seconds() -> u32 {
    60
}

fn default_key_ttl_seconds() -> u32 {
    300
}

/// A root key in IBM Key Protect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct KeyProtect {
    /// Base URL without path, such as `https://eu-de.kms.cloud.ibm.com`.
    #[x_kube(validation = https_only())]
    pub endpoint: String,
    /// Base URL of IAM. Default: `https://iam.cloud.ibm.com`.
    #[serde(default = "default_iam_endpoint")]
    #[x_kube(validation = https_only())]
    pub iam_endpoint: String,
    /// GUID of the Key Protect instance.
    #[schemars(length(min = 1))]
    pub instance: String,
    /// Id or alias of the root key.
    #[schemars(length(min = 1))]
    pub root_key: String,
    /// Key ring of the root key. Default: the service searches all rings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ring: Option<String>,
}

fn default_iam_endpoint() -> String {
    "https://iam.cloud.ibm.com".into()
}

/// A key of a Transit engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Transit {
    /// Base URL without path, such as `https://bao.example:8200`.
    #[x_kube(validation = https_only())]
    pub endpoint: String,
    /// Namespace of engine and login. Default: the root namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount path of the engine. Default: `transit`.
    #[serde(default = "default_transit_mount")]
    pub mount: String,
    /// Name of the key. Make it with `derived=true`: only then the context of each wrapped key is bound by the engine too.
    #[schemars(length(min = 1))]
    pub key: String,
}

fn default_transit_mount() -> String {
    "transit".into()
}

/// A PEM bundle in a ConfigMap of the profile's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1))]
    pub config_map: String,
    /// Key in the ConfigMap. Default: `ca.crt`.
    #[serde(default = "default_ca_key")]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

/// Three credentials, each the least that works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Reader: metadata, wrap and unwrap. For sidecars.
    pub data: Credential,
    /// Metadata and rewrap only. For rewrap Jobs. Default: Jobs use `data`, and say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrap: Option<Credential>,
    /// Rotation. For the operator. Default: rotation is only observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Credential>,
}

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.apiKeySecret) ? 1 : 0) + (has(self.trustedProfile) ? 1 : 0) + (has(self.tokenSecret) ? 1 : 0) + (has(self.appRole) ? 1 : 0) + (has(self.kubernetes) ? 1 : 0) == 1").message("exactly one of apiKeySecret, trustedProfile, tokenSecret, appRole and kubernetes must be set"))]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Credential {
    /// For Key Protect: a Secret of the profile's namespace with the key `apiKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret: Option<SecretName>,
    /// For Key Protect: a trusted profile that the pod assumes with its projected service account token: no stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_profile: Option<TrustedProfile>,
    /// For Transit: a Secret of the profile's namespace with a token under the key `token`. It is prolonged while the server
    /// allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretName>,
    /// For Transit: an AppRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRole>,
    /// For Transit: a role that the pod takes with its projected service account token: no stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesRole>,
}

impl Credential {
    /// The audience of the service account token that stands for a Secret; `None`: it is a Secret.
    pub fn audience(&self) -> Option<&str> {
        let trusted = self.trusted_profile.as_ref().map(|trusted| trusted.audience.as_str());
        trusted.or_else(|| self.kubernetes.as_ref().map(|role| role.audience.as_str()))
    }
}

/// An AppRole of Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppRole {
    /// Mount path of the auth method. Default: `approle`.
    #[serde(default = "default_app_role_mount")]
    pub mount: String,
    /// The role's id, which is no secret.
    #[schemars(length(min = 1))]
    pub role_id: String,
    /// A Secret of the profile's namespace with the key `secretId`.
    pub secret: SecretName,
}

fn default_app_role_mount() -> String {
    "approle".into()
}

/// A role of the auth method `kubernetes` (or `jwt`) of Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct KubernetesRole {
    /// Mount path of the auth method. Default: `kubernetes`.
    #[serde(default = "default_kubernetes_mount")]
    pub mount: String,
    /// The role's name.
    #[schemars(length(min = 1))]
    pub role: String,
    /// Audience of the projected token, which the role asks for and nobody else accepts. Default: `openbao`.
    #[serde(default = "default_kubernetes_audience")]
    #[x_kube(validation = foreign_audience())]
    pub audience: String,
}

fn default_kubernetes_mount() -> String {
    "kubernetes".into()
}

fn default_kubernetes_audience() -> String {
    "openbao".into()
}

/// What holds for the audience of each token that leaves the cluster.
// What the API server of this very cluster accepts, only the operator can tell: it checks that too.
fn foreign_audience() -> Rule {
    Rule::new("self != '' && self != 'cofferdam' && !self.startsWith('https://kubernetes.default.svc')").message("must be an audience of the KMS's identity service: not empty, not cofferdam (for check-in), not the API server's")
}

/// A Secret by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// An IBM Cloud trusted profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct TrustedProfile {
    /// Its id (`Profile-…`).
    #[schemars(length(min = 1))]
    pub id: String,
    /// Audience of the projected token, which nobody but the KMS's identity service accepts. Default: `iam`.
    #[serde(default = "default_trusted_profile_audience")]
    #[x_kube(validation = foreign_audience())]
    pub audience: String,
}

fn default_trusted_profile_audience() -> String {
    "iam".into()
}

/// Who rotates the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// The operator sees to it that the root key is rotated (needs `credentials.admin`). Default: false.
    #[serde(default)]
    pub managed: bool,
    /// Months of 30 days between two rotations, 1 to 12. Default: 3.
    #[serde(default = "default_interval_months")]
    #[schemars(range(min = 1, max = 12))]
    pub interval_months: u32,
    /// Who rotates when the time has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<RotatedBy>,
}

/// Who rotates: `Kms`, by the rotation policy that the operator sets there, or `Operator`, once the current version is older than
/// the interval. Default: `Kms` where it has such a policy (Key Protect), else `Operator`.
// The text above stands in the CRD; those of the variants do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotatedBy {
    /// The KMS, by the rotation policy that the operator sets there. It goes on without the cluster. The admin credential must be
    /// allowed to write policies (Key Protect: `kms.policies.write`).
    Kms,
    /// The operator, once the current version is older than the interval. The admin credential needs the right to rotate, and no
    /// other (Key Protect: `kms.secrets.rotate`).
    Operator,
}

fn default_interval_months() -> u32 {
    3
}

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
