//! The credentials of a `KmsProfile`: who the programs are to the KMS.
//!
//! Invariant: references to Secrets of the profile's own namespace, or identities that need none; a credential fits its provider.

use kube_core::Rule;
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each provider of a profile, and the credentials that it takes.
const TAKES: &[(&str, &[&str])] = &[
    ("aws", &["awsKeysSecret", "awsWebIdentity"]),
    ("azure", &["azureClientSecret", "azureFederated"]),
    ("google", &["googleKeySecret", "googleWorkloadIdentity"]),
    ("keyProtect", &["apiKeySecret", "trustedProfile"]),
    ("pkcs11", &["pinSecret"]),
    ("transit", &["tokenSecret", "appRole", "kubernetes"]),
];

/// Terms of a CEL expression, with an operator between them.
fn joined(terms: impl Iterator<Item = String>, operator: &str) -> String {
    terms.collect::<Vec<_>>().join(operator)
}

/// That just one of these fields of `object` is set.
fn one_of<'a>(object: &str, fields: impl Iterator<Item = &'a str>) -> String {
    joined(fields.map(|field| format!("(has({object}.{field}) ? 1 : 0)")), " + ") + " == 1"
}

/// Names for people: `a, b or c`.
fn listed(names: &[&str]) -> String {
    match names {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => names.concat(),
    }
}

/// What holds for the provider of a profile.
pub(super) fn one_provider() -> Rule {
    let names: Vec<&str> = TAKES.iter().map(|(provider, _)| *provider).collect();
    let message = format!("exactly one provider must be set: {}", listed(&names));
    Rule::new(one_of("self", names.iter().copied())).message(message.as_str())
}

/// What holds for one of a profile's credentials, where it is set.
pub(super) fn fits(name: &str) -> Rule {
    let credential = format!("self.credentials.{name}");
    let fits = TAKES.iter().map(|(provider, kinds)| {
        let any = joined(kinds.iter().map(|kind| format!("has({credential}.{kind})")), " || ");
        format!("has(self.{provider}) == ({any})")
    });
    let takes = TAKES.iter().map(|(provider, kinds)| format!("{provider} takes {}", listed(kinds)));
    let message = format!("credentials.{name} does not fit the provider: {}", joined(takes, "; "));
    Rule::new(format!("!has({credential}) || ({})", joined(fits, " && "))).message(message.as_str())
}

/// What holds for a credential.
fn one_kind() -> Rule {
    let kinds: Vec<&str> = TAKES.iter().flat_map(|(_, kinds)| kinds.iter().copied()).collect();
    let message = format!("exactly one must be set: {}", listed(&kinds));
    Rule::new(one_of("self", kinds.iter().copied())).message(message.as_str())
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
#[x_kube(validation = one_kind())]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Credential {
    /// For AWS: a Secret of the profile's namespace with access keys under the key `credentials`, in the form of a shared credentials
    /// file (`[default]`, `aws_access_key_id`, `aws_secret_access_key`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_keys_secret: Option<SecretName>,
    /// For AWS: a role that the pod takes with its projected service account token: no stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_web_identity: Option<Box<AwsWebIdentity>>,
    /// For Azure: an application with a client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_client_secret: Option<Box<AzureClientSecret>>,
    /// For Azure: an application or managed identity with a federated credential for the pod's projected service account token: no
    /// stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_federated: Option<Box<AzureFederated>>,
    /// For Google: a Secret of the profile's namespace with a service account's JSON key under the key `key.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google_key_secret: Option<SecretName>,
    /// For Google: workload identity federation of the pod's projected service account token: no stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google_workload_identity: Option<Box<GoogleWorkloadIdentity>>,
    /// For PKCS#11: a Secret of the profile's namespace with the user PIN under the key `pin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_secret: Option<SecretName>,
    /// For Key Protect: a Secret of the profile's namespace with the key `apiKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret: Option<SecretName>,
    /// For Key Protect: a trusted profile that the pod assumes with its projected service account token: no stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_profile: Option<Box<TrustedProfile>>,
    /// For Transit: a Secret of the profile's namespace with a token under the key `token`. It is prolonged while the server
    /// allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretName>,
    /// For Transit: an AppRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<Box<AppRole>>,
    /// For Transit: a role that the pod takes with its projected service account token: no stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Box<KubernetesRole>>,
}

impl Credential {
    /// The audience of the service account token that stands for a Secret; `None`: it is a Secret.
    pub fn audience(&self) -> Option<String> {
        self.identity().map(|(_, audience)| audience)
    }

    /// The field of the service account token that stands for a Secret, and its audience; `None`: it is a Secret.
    pub fn identity(&self) -> Option<(&'static str, String)> {
        let identities = [
            ("awsWebIdentity", self.aws_web_identity.as_ref().map(|role| role.audience.clone())),
            ("azureFederated", self.azure_federated.as_ref().map(|one| one.audience.clone())),
            (
                "googleWorkloadIdentity",
                self.google_workload_identity.as_deref().map(GoogleWorkloadIdentity::audience),
            ),
            ("kubernetes", self.kubernetes.as_ref().map(|role| role.audience.clone())),
            ("trustedProfile", self.trusted_profile.as_ref().map(|one| one.audience.clone())),
        ];
        identities.into_iter().find_map(|(field, audience)| Some((field, audience?)))
    }
}

/// A role of AWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct AwsWebIdentity {
    /// The role's ARN.
    #[x_kube(validation = Rule::new("self.startsWith('arn:')").message("must be the ARN of a role"))]
    pub role_arn: String,
    /// Audience of the projected token, as the role's identity provider knows it. Default: `sts.amazonaws.com`.
    #[serde(default = "default_aws_audience")]
    #[x_kube(validation = foreign_audience())]
    pub audience: String,
}

fn default_aws_audience() -> String {
    "sts.amazonaws.com".into()
}

/// An application of Entra ID with a client secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureClientSecret {
    /// Id of the tenant.
    #[schemars(length(min = 1))]
    pub tenant_id: String,
    /// Id of the application.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// A Secret of the profile's namespace with the key `clientSecret`.
    pub secret: SecretName,
}

/// An application or managed identity of Entra ID with a federated credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct AzureFederated {
    /// Id of the tenant.
    #[schemars(length(min = 1))]
    pub tenant_id: String,
    /// Id of the application or managed identity.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// Audience of the projected token, as the federated credential says. Default: `api://AzureADTokenExchange`.
    #[serde(default = "default_azure_audience")]
    #[x_kube(validation = foreign_audience())]
    pub audience: String,
}

fn default_azure_audience() -> String {
    "api://AzureADTokenExchange".into()
}

/// A provider of a workload identity pool of Google Cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct GoogleWorkloadIdentity {
    /// `projects/N/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.
    #[x_kube(validation = Rule::new("self.matches('^projects/[^/]+/locations/global/workloadIdentityPools/[^/]+/providers/[^/]+$')").message("must be projects/N/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"))]
    pub provider: String,
    /// E-mail address of the service account that the pod speaks for. Default: none, its own identity has the roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Audience of the projected token, as the provider allows it. Default: `https://iam.googleapis.com/` and the provider's name, which
    /// a provider allows that lists none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = foreign_audience())]
    pub audience: Option<String>,
}

impl GoogleWorkloadIdentity {
    fn audience(&self) -> String {
        self.audience.clone().unwrap_or_else(|| format!("https://iam.googleapis.com/{}", self.provider))
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
