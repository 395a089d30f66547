//! `KmsProfile`: a root key, where it lives, and who may use it. Written by the security team.
//!
//! Invariant: exactly one provider; no secret in the object, only references to Secrets of its own namespace.

mod credential;
mod provider;
mod status;

use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use credential::{
    AppRole, AwsWebIdentity, AzureClientSecret, AzureFederated, Credential, Credentials,
    GoogleWorkloadIdentity, KubernetesRole, SecretName, TrustedProfile,
};
pub use provider::{AwsKms, AzureKeyVault, GoogleKms, KeyProtect, Pkcs11, Transit};
pub use status::{KmsProfileStatus, RotationStatus, VersionStatus};

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
#[x_kube(validation = credential::one_provider())]
#[x_kube(validation = credential::fits("data"))]
#[x_kube(validation = credential::fits("rewrap"))]
#[x_kube(validation = credential::fits("admin"))]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct KmsProfileSpec {
    /// AWS KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Box<AwsKms>>,
    /// Azure Key Vault or Managed HSM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Box<AzureKeyVault>>,
    /// Google Cloud KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google: Option<Box<GoogleKms>>,
    /// IBM Key Protect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_protect: Option<Box<KeyProtect>>,
    /// A hardware security module, by PKCS#11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11: Option<Box<Pkcs11>>,
    /// HashiCorp Vault or OpenBao Transit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit: Option<Box<Transit>>,
    /// Certificate authorities of the KMS; default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// `http://HOST:PORT` of a proxy that leads to the KMS. What passes it is TLS between the programs and the KMS. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = provider::proxy())]
    pub proxy: Option<String>,
    /// Who the programs are to the KMS.
    pub credentials: Credentials,
    /// Namespaces, beside the profile's own, whose bindings may use it. A Secret is never copied there: they need a
    /// credential without one. Default: none.
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

fn default_poll_seconds() -> u32 {
    60
}

fn default_key_ttl_seconds() -> u32 {
    300
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
