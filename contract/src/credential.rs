//! How a program authenticates with the KMS of its root key.
//!
//! Invariant: it names files that hold secrets or tokens, and holds none itself.

use serde::{Deserialize, Serialize};

/// How to authenticate with the KMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Credential {
    /// Access keys of AWS in a file that may change at any time: a shared credentials file, of which the profile `default` counts.
    AwsKeysFile {
        /// Absolute path.
        path: String,
    },
    /// A role of AWS, by a projected service account token.
    AwsWebIdentity {
        /// The role's ARN.
        role_arn: String,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
    /// An application of Entra ID, by a client secret in a file that may change at any time.
    AzureClientSecretFile {
        /// Id of the tenant.
        tenant_id: String,
        /// Id of the application.
        client_id: String,
        /// Absolute path.
        path: String,
    },
    /// An application or managed identity of Entra ID, by a projected service account token.
    AzureFederated {
        /// Id of the tenant.
        tenant_id: String,
        /// Id of the application or managed identity.
        client_id: String,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
    /// A service account's JSON key of Google Cloud in a file that may change at any time.
    GoogleKeyFile {
        /// Absolute path.
        path: String,
    },
    /// Workload identity federation of Google Cloud, by a projected service account token.
    GoogleWorkloadIdentity {
        /// `//iam.googleapis.com/projects/N/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.
        audience: String,
        /// E-mail address of the service account that is spoken for; absent: the Kubernetes service account has roles of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_account: Option<String>,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
    /// The user PIN of a PKCS#11 token in a file that may change at any time.
    PinFile {
        /// Absolute path.
        path: String,
    },
    /// An API key of IBM Cloud in a file that may change at any time.
    ApiKeyFile {
        /// Absolute path.
        path: String,
    },
    /// A trusted profile of IBM Cloud, by a projected service account token.
    TrustedProfile {
        /// Id of the trusted profile.
        profile_id: String,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
    /// A token of Vault or OpenBao in a file that may change at any time.
    TokenFile {
        /// Absolute path.
        path: String,
    },
    /// An AppRole of Vault or OpenBao.
    AppRole {
        /// Mount path of the auth method.
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// Absolute path of the secret id, which may change at any time.
        secret_id_path: String,
    },
    /// A role of Vault or OpenBao, by a projected service account token.
    Kubernetes {
        /// Mount path of the auth method.
        mount: String,
        /// The role's name.
        role: String,
        /// Absolute path of the token, read again for each login.
        token_path: String,
    },
}

impl Credential {
    /// The file with the secret or the token.
    pub fn path(&self) -> &str {
        match self {
            Self::ApiKeyFile { path }
            | Self::AwsKeysFile { path }
            | Self::AzureClientSecretFile { path, .. }
            | Self::GoogleKeyFile { path }
            | Self::PinFile { path }
            | Self::TokenFile { path } => path,
            Self::AppRole { secret_id_path, .. } => secret_id_path,
            Self::AwsWebIdentity { token_path, .. }
            | Self::AzureFederated { token_path, .. }
            | Self::GoogleWorkloadIdentity { token_path, .. }
            | Self::Kubernetes { token_path, .. }
            | Self::TrustedProfile { token_path, .. } => token_path,
        }
    }
}
