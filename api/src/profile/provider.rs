//! The providers of a `KmsProfile`: where a root key lives.
//!
//! Invariant: addresses are https; nothing here is secret.

use kube_core::Rule;
use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// What holds for each address of a KMS.
fn https_only() -> Rule {
    Rule::new("self.startsWith('https://')").message("must be an https URL")
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
