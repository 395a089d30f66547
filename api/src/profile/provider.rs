//! The providers of a `KmsProfile`: where a root key lives.
//!
//! Invariant: addresses are https; nothing here is secret.

use kube_core::Rule;
use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// What holds for the address of a proxy.
pub(super) fn proxy() -> Rule {
    Rule::new("self.matches('^http://[^/@]+/?$')")
        .message("must be http://HOST:PORT, without path, user and password")
}

/// What holds for each address of a KMS.
fn https_only() -> Rule {
    Rule::new("self.startsWith('https://')").message("must be an https URL")
}

/// A root key in AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct AwsKms {
    /// The key's region, such as `eu-central-1`.
    #[schemars(length(min = 1))]
    pub region: String,
    /// Base URL of KMS without path, such as that of a VPC endpoint. Default: the region's public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = https_only())]
    pub endpoint: Option<String>,
    /// Base URL of STS without path. Default: the region's public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = https_only())]
    pub sts_endpoint: Option<String>,
    /// Id, ARN or alias (`alias/…`) of the root key.
    #[schemars(length(min = 1))]
    pub key: String,
}

/// A root key in Azure Key Vault or Managed HSM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct AzureKeyVault {
    /// Base URL of the vault without path, such as `https://NAME.vault.azure.net` or `https://NAME.managedhsm.azure.net`.
    #[x_kube(validation = https_only())]
    pub vault: String,
    /// Base URL of Entra ID. Default: `https://login.microsoftonline.com`.
    #[serde(default = "default_login_endpoint")]
    #[x_kube(validation = https_only())]
    pub login_endpoint: String,
    /// Name of the root key.
    #[schemars(length(min = 1))]
    pub key: String,
}

fn default_login_endpoint() -> String {
    "https://login.microsoftonline.com".into()
}

/// A root key in Google Cloud KMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct GoogleKms {
    /// Base URL of Cloud KMS without path. Default: the public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = https_only())]
    pub endpoint: Option<String>,
    /// URL where a service account's key becomes a token. Default: the public one; what the key itself says of it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = https_only())]
    pub token_endpoint: Option<String>,
    /// Base URL of the STS of workload identity federation. Default: the public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = https_only())]
    pub sts_endpoint: Option<String>,
    /// Base URL that gives tokens of a service account. Default: the public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = https_only())]
    pub iam_endpoint: Option<String>,
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    #[x_kube(validation = Rule::new("self.matches('^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$')").message("must be projects/P/locations/L/keyRings/R/cryptoKeys/K"))]
    pub key: String,
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

/// A root key in a hardware security module, by PKCS#11.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Pkcs11 {
    /// Absolute path of the vendor's library in the image of sidecar and operator, which is yours then.
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("must be an absolute path"))]
    pub module: String,
    /// Label of the token.
    #[schemars(length(min = 1, max = 32))]
    pub token: String,
    /// Label of the key's objects, one for each version.
    #[schemars(length(min = 1))]
    pub key: String,
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
