//! Where a root key lives: the vendors, and what addresses each of them is called at.
//!
//! Invariant: nothing here is secret. All addresses that a program calls for a root key are among [`Provider::endpoints`].

use serde::{Deserialize, Serialize};

/// The vendor and its address of the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Provider {
    /// AWS KMS.
    Aws(AwsKms),
    /// Azure Key Vault or Managed HSM.
    Azure(AzureKeyVault),
    /// Google Cloud KMS.
    Google(GoogleKms),
    /// IBM Key Protect.
    KeyProtect(KeyProtect),
    /// A PKCS#11 token.
    Pkcs11(Pkcs11),
    /// HashiCorp Vault or OpenBao Transit.
    Transit(Transit),
}

/// An address that is called, and the field of a profile that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The field, such as `keyProtect.endpoint`.
    pub field: &'static str,
    /// The URL.
    pub url: String,
}

fn called(field: &'static str, url: impl Into<String>) -> Called {
    Called { field, url: url.into() }
}

impl Provider {
    /// The root key, as its vendor calls it.
    pub fn root_key(&self) -> &str {
        match self {
            Self::Aws(spec) => &spec.key,
            Self::Azure(spec) => &spec.key,
            Self::Google(spec) => &spec.key,
            Self::KeyProtect(spec) => &spec.root_key,
            Self::Pkcs11(spec) => &spec.key,
            Self::Transit(spec) => &spec.key,
        }
    }

    /// All that may be called for it.
    pub fn endpoints(&self) -> Vec<Called> {
        let service = match self {
            Self::Aws(spec) => vec![called("aws.endpoint", spec.endpoint())],
            Self::Azure(spec) => vec![called("azure.vault", &spec.vault)],
            Self::Google(spec) => vec![
                called("google.endpoint", spec.endpoint()),
                called("google.tokenEndpoint", spec.token_endpoint()),
                called("google.iamEndpoint", spec.iam_endpoint()),
            ],
            Self::KeyProtect(spec) => vec![called("keyProtect.endpoint", &spec.endpoint)],
            Self::Pkcs11(_) | Self::Transit(_) => Vec::new(),
        };
        service.into_iter().chain(self.identity_endpoint()).collect()
    }

    /// Who is shown a service account token; `None`: nobody, an identity is no credential there.
    pub fn identity_endpoint(&self) -> Option<Called> {
        match self {
            Self::Aws(spec) => Some(called("aws.stsEndpoint", spec.sts_endpoint())),
            Self::Azure(spec) => Some(called("azure.loginEndpoint", &spec.login_endpoint)),
            Self::Google(spec) => Some(called("google.stsEndpoint", spec.sts_endpoint())),
            Self::KeyProtect(spec) => Some(called("keyProtect.iamEndpoint", &spec.iam_endpoint)),
            Self::Pkcs11(_) => None,
            // Whoever keeps the keys there is also who checks the tokens.
            Self::Transit(spec) => Some(called("transit.endpoint", &spec.endpoint)),
        }
    }
}

/// A root key in AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsKms {
    /// The root key's region, such as `eu-central-1`.
    pub region: String,
    /// `https://HOST`, without path; absent: the region's public address of KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// `https://HOST`, without path, of the STS that gives sessions of a role; absent: the region's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// Id, ARN or alias (`alias/…`) of the root key.
    pub key: String,
}

impl AwsKms {
    /// The address of KMS. Source: AWS General Reference, endpoints of services.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| self.usual("kms"))
    }

    /// The address of STS.
    pub fn sts_endpoint(&self) -> String {
        self.sts_endpoint.clone().unwrap_or_else(|| self.usual("sts"))
    }

    fn usual(&self, service: &str) -> String {
        let suffix = if self.region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://{service}.{}.amazonaws.com{suffix}", self.region)
    }
}

/// A root key in Azure Key Vault or Managed HSM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVault {
    /// `https://NAME.vault.azure.net` or `https://NAME.managedhsm.azure.net`, without path.
    pub vault: String,
    /// `https://login.microsoftonline.com`, without path.
    pub login_endpoint: String,
    /// The key's name.
    pub key: String,
}

/// A root key in Google Cloud KMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GoogleKms {
    /// `https://HOST`, without path; absent: the public address of Cloud KMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// `https://HOST/token`, where a service account's key becomes a token; absent: Google's public address. What the key file
    /// says of it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// `https://HOST`, without path, of the STS that exchanges tokens of workload identity; absent: Google's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// `https://HOST`, without path, that gives tokens of a service account; absent: Google's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_endpoint: Option<String>,
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    pub key: String,
}

impl GoogleKms {
    /// The address of Cloud KMS.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("https://cloudkms.googleapis.com")
    }

    /// Where a service account's key becomes a token.
    pub fn token_endpoint(&self) -> &str {
        self.token_endpoint.as_deref().unwrap_or("https://oauth2.googleapis.com/token")
    }

    /// Where tokens of workload identity are exchanged.
    pub fn sts_endpoint(&self) -> &str {
        self.sts_endpoint.as_deref().unwrap_or("https://sts.googleapis.com")
    }

    /// Where tokens of a service account are had.
    pub fn iam_endpoint(&self) -> &str {
        self.iam_endpoint.as_deref().unwrap_or("https://iamcredentials.googleapis.com")
    }
}

/// A root key in IBM Key Protect: public, private and Dedicated endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyProtect {
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
}

impl KeyProtect {
    /// A root key of an instance whose address serves IAM too, as that of devkms does.
    pub fn at(url: &str, instance: &str, root_key: &str) -> Self {
        let (instance, root_key) = (instance.into(), root_key.into());
        Self { endpoint: url.into(), iam_endpoint: url.into(), instance, root_key, key_ring: None }
    }
}

/// A root key in a hardware security module, by PKCS#11.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pkcs11 {
    /// Absolute path of the vendor's library.
    pub module: String,
    /// Label of the token.
    pub token: String,
    /// Label of the key's objects, one for each version.
    pub key: String,
}

/// A root key in a Transit engine of HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transit {
    /// `https://HOST:8200`, without path.
    pub endpoint: String,
    /// Namespace of engine and login; absent: the root namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount path of the engine, such as `transit`.
    pub mount: String,
    /// Name of the root key.
    pub key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(region: &str, endpoint: Option<&str>) -> Provider {
        let endpoint = endpoint.map(str::to_owned);
        Provider::Aws(AwsKms { region: region.into(), endpoint, sts_endpoint: None, key: "k".into() })
    }

    #[test]
    fn an_address_that_nobody_gives_is_the_public_one_of_the_region() {
        let urls =
            |provider: Provider| provider.endpoints().into_iter().map(|one| one.url).collect::<Vec<_>>();
        let of = |host: &str| format!("https://{host}");
        assert_eq!(
            urls(aws("eu-central-1", None)),
            [of("kms.eu-central-1.amazonaws.com"), of("sts.eu-central-1.amazonaws.com")]
        );
        assert_eq!(urls(aws("cn-north-1", Some("https://vpce")))[0], "https://vpce");
        assert_eq!(urls(aws("cn-north-1", None))[1], of("sts.cn-north-1.amazonaws.com.cn"));
    }
}
