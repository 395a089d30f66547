//! A profile with everything that it takes to connect: what is declared, and the secrets for it where they could be had.
//!
//! Invariant: a secret is here only while a command runs, and never in a message; what is missing is said with its reason.

use api::connection;
use api::profile::{Credential, KmsProfileSpec};
use contract::config::Provider;
use kms::{CaSource, KeyRef, ProviderConfig, SecretString};
use serde::Serialize;
use serde_json::Value;

/// The credentials of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// For sidecars.
    Data,
    /// For rewrap Jobs.
    Rewrap,
    /// For the operator, and for whoever changes the root key.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Data, Self::Rewrap, Self::Admin];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Rewrap => "rewrap",
            Self::Admin => "admin",
        }
    }

    /// The one of this name.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }

    /// What the profile declares for it.
    pub fn declared(self, spec: &KmsProfileSpec) -> Option<&Credential> {
        match self {
            Self::Data => Some(&spec.credentials.data),
            Self::Rewrap => spec.credentials.rewrap.as_ref(),
            Self::Admin => spec.credentials.admin.as_ref(),
        }
    }
}

/// What is known of something that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is missing or wrong: a person must act.
    Wrong,
    /// The caller may not have it; whether it is there is not known.
    Refused,
    /// Nobody answered.
    Outage,
}

/// Why something could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What is known.
    pub known: Known,
    /// For a person.
    pub text: String,
}

impl Gap {
    /// It is missing or wrong.
    pub fn wrong(text: impl Into<String>) -> Self {
        Self { known: Known::Wrong, text: text.into() }
    }

    /// The caller may not have it.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { known: Known::Refused, text: text.into() }
    }

    /// Nobody answered.
    pub fn outage(text: impl Into<String>) -> Self {
        Self { known: Known::Outage, text: text.into() }
    }
}

/// A profile's credential with its secret.
pub struct Held {
    /// Which one.
    pub role: Role,
    /// What the profile declares.
    pub declared: Credential,
    /// Its secret or token.
    pub secret: Result<SecretString, Gap>,
}

/// A profile to be looked at or to be acted upon.
pub struct Subject {
    /// Its namespace; empty where a manifest names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// As it is declared.
    pub spec: KmsProfileSpec,
    /// Where the root key lives.
    pub provider: Provider,
    /// The KMS's certificate authorities; `None`: those of the system.
    pub ca: Result<Option<String>, Gap>,
    /// Plain http is taken at loopback addresses.
    pub allow_loopback_http: bool,
    /// The credentials that it declares.
    pub credentials: Vec<Held>,
}

impl Subject {
    /// `namespace/name`.
    pub fn title(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// The root key.
    pub fn key(&self) -> KeyRef {
        KeyRef(self.provider.root_key().into())
    }

    /// One of its credentials.
    pub fn held(&self, role: Role) -> Option<&Held> {
        self.credentials.iter().find(|held| held.role == role)
    }

    /// How to connect with a credential, and its secret.
    pub fn connection(&self, held: &Held) -> Result<(ProviderConfig, SecretString), Gap> {
        let ca = self.ca.clone()?.map(|pem| CaSource::Pem { pem });
        // The secret is handed over with the connection: no file of this directory is read.
        let credential = connection::in_directory(&held.declared, "/given")
            .ok_or_else(|| Gap::wrong(format!("credentials.{} declares nothing", held.role.name())))?;
        let (provider, allow_loopback_http) = (self.provider.clone(), self.allow_loopback_http);
        let proxy = self.spec.proxy.clone();
        let config = ProviderConfig { provider, credential, ca, proxy, allow_loopback_http };
        Ok((config, held.secret.clone()?))
    }
}

/// The audiences that are not the KMS's: a token with one of them would be good for something else. The CRD refuses them too, which a
/// manifest has not met yet.
pub fn foreign_audience(audience: &str) -> Result<&str, Gap> {
    let own = audience.is_empty()
        || audience == contract::names::TOKEN_AUDIENCE
        || audience.starts_with("https://kubernetes.default.svc");
    if own {
        let text = format!(
            "the audience '{audience}' is not one of the KMS's identity service: no token is asked for"
        );
        return Err(Gap::wrong(text));
    }
    Ok(audience)
}

/// A provider as people know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The provider's name, as in a profile.
    pub provider: String,
    /// Its address; absent where the provider has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The root key.
    pub root_key: String,
}

impl Place {
    /// Where a root key lives. Read from the provider's own form, so that a new provider needs nothing here.
    pub fn of(provider: &Provider) -> Self {
        let form = serde_json::to_value(provider).unwrap_or_default();
        let text = |field: &str| form.get(field).and_then(Value::as_str).map(str::to_owned);
        Self {
            provider: text("kind").unwrap_or_default(),
            endpoint: text("endpoint"),
            root_key: provider.root_key().into(),
        }
    }
}

/// The identity service is another server than the KMS.
pub fn identity_elsewhere(provider: &Provider) -> bool {
    let the_same = matches!(provider, Provider::Transit(_))
        || matches!(provider, Provider::KeyProtect(spec) if spec.endpoint == spec.iam_endpoint);
    !the_same
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_for_this_project_or_for_the_api_server_is_asked_for_by_nobody() {
        for audience in [
            "",
            "cofferdam",
            "https://kubernetes.default.svc",
            "https://kubernetes.default.svc.cluster.local",
        ] {
            assert_eq!(foreign_audience(audience).unwrap_err().known, Known::Wrong, "{audience}");
        }
        assert_eq!(foreign_audience("openbao").unwrap(), "openbao");
    }

    #[test]
    fn a_place_is_read_from_any_providers_own_form() {
        let provider =
            Provider::KeyProtect(contract::config::KeyProtect::at("https://kms.example", "i", "k"));
        let place = Place::of(&provider);
        assert_eq!(
            (place.provider.as_str(), place.endpoint.as_deref()),
            ("keyProtect", Some("https://kms.example"))
        );
        assert_eq!(place.root_key, "k");
    }
}
