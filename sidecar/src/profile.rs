//! From a configured profile to a root key that can be called.
//!
//! Invariant: provider, endpoint, root key and credential come from the configuration alone, never from a volume; keys and
//! credentials go through TLS, but where a person at an offline command said otherwise.

use std::sync::Arc;
use std::time::Duration;

use contract::config::{Credential, Profile, Provider};
use kms::observe::Observer;
use kms::{
    CaSource, ConfigError, CredentialSource, KeyProtectConfig, Options, ProviderConfig, TransitConfig,
    TransitCredential,
};

use crate::keys::RootKey;

/// The shortest time between two looks at a key's state that a profile may ask for.
const SHORTEST_POLL: Duration = Duration::from_secs(1);
/// The longest, so that a disabled key is noticed within the promised time.
const LONGEST_POLL: Duration = Duration::from_secs(30);

/// How long keys live, from a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Between two looks at the key's state, before jitter.
    pub poll: Duration,
    /// How long plaintext keys serve after a real unwrap.
    pub ttl: Duration,
    /// How much longer while the KMS gives no answer.
    pub grace: Duration,
}

impl Lifetimes {
    /// The profile's values, with the poll held between 1 s and 30 s.
    pub fn of(profile: &Profile) -> Self {
        let seconds = |value: u32| Duration::from_secs(u64::from(value));
        Self {
            poll: seconds(profile.poll_seconds).clamp(SHORTEST_POLL, LONGEST_POLL),
            ttl: seconds(profile.key_ttl_seconds),
            grace: seconds(profile.outage_grace_seconds),
        }
    }
}

/// How the KMS may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By https alone.
    Https,
    /// By plain http too, at a loopback address: for a KMS that is tried out on this machine.
    LoopbackHttp,
}

/// Connects to the root key of `profile`. Makes no call.
pub fn connect(
    profile: &Profile,
    transport: Transport,
    observer: Arc<dyn Observer>,
) -> Result<Arc<RootKey>, ConfigError> {
    let lifetimes = Lifetimes::of(profile);
    let options =
        Options { cache_ttl: lifetimes.ttl, outage_grace: lifetimes.grace, observer, ..Options::default() };
    let (config, provider) = provider_config(profile, transport)?;
    let kms = kms::connect(&config, &options)?;
    Ok(Arc::new(RootKey::new(kms, config.key_ref(), provider)))
}

/// The provider as the KMS crate and as a volume's headers name it.
fn provider_config(
    profile: &Profile,
    transport: Transport,
) -> Result<(ProviderConfig, envelope::Provider), ConfigError> {
    let ca = profile.ca_file.as_ref().map(|path| CaSource::File { path: path.clone() });
    let allow_loopback_http = transport == Transport::LoopbackHttp;
    match profile.provider.clone() {
        Provider::KeyProtect { endpoint, iam_endpoint, instance, root_key, key_ring } => {
            let credential = key_protect(&profile.credential)?;
            let config = KeyProtectConfig {
                endpoint,
                iam_endpoint,
                instance,
                root_key,
                key_ring,
                credential,
                ca,
                allow_loopback_http,
            };
            Ok((ProviderConfig::KeyProtect(config), envelope::Provider::KeyProtect))
        }
        Provider::Transit { endpoint, namespace, mount, key } => {
            let credential = transit(&profile.credential)?;
            let config =
                TransitConfig { endpoint, namespace, mount, key, credential, ca, allow_loopback_http };
            Ok((ProviderConfig::Transit(config), envelope::Provider::Transit))
        }
    }
}

fn key_protect(credential: &Credential) -> Result<CredentialSource, ConfigError> {
    match credential.clone() {
        Credential::ApiKeyFile { path } => Ok(CredentialSource::ApiKeyFile { path }),
        Credential::TrustedProfile { profile_id, token_path } => {
            Ok(CredentialSource::TrustedProfile { profile_id, token_path })
        }
        _ => Err(ConfigError::Credential),
    }
}

fn transit(credential: &Credential) -> Result<TransitCredential, ConfigError> {
    match credential.clone() {
        Credential::TokenFile { path } => Ok(TransitCredential::TokenFile { path }),
        Credential::AppRole { mount, role_id, secret_id_path } => {
            Ok(TransitCredential::AppRole { mount, role_id, secret_id_path })
        }
        Credential::Kubernetes { mount, role, token_path } => {
            Ok(TransitCredential::Kubernetes { mount, role, token_path })
        }
        _ => Err(ConfigError::Credential),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(endpoint: &str) -> Profile {
        Profile {
            namespace: "n".into(),
            name: "p".into(),
            provider: Provider::KeyProtect {
                endpoint: endpoint.into(),
                iam_endpoint: "https://i".into(),
                instance: "x".into(),
                root_key: "r".into(),
                key_ring: None,
            },
            credential: Credential::ApiKeyFile { path: "/k".into() },
            ca_file: None,
            poll_seconds: 0,
            key_ttl_seconds: 300,
            outage_grace_seconds: 7,
        }
    }

    #[test]
    fn plain_http_is_for_a_loopback_address_that_an_offline_command_was_allowed() {
        let connect = |endpoint: &str, transport| {
            connect(&profile(endpoint), transport, Arc::new(kms::observe::Unobserved)).is_ok()
        };
        assert!(!connect("http://127.0.0.1:8080", Transport::Https));
        assert!(connect("http://127.0.0.1:8080", Transport::LoopbackHttp));
        assert!(!connect("http://10.0.0.1:8080", Transport::LoopbackHttp));
        assert!(connect("https://10.0.0.1:8080", Transport::Https));
    }

    #[test]
    fn a_credential_fits_its_provider_or_nothing_is_connected() {
        let transit = Provider::Transit {
            endpoint: "https://bao:8200".into(),
            namespace: None,
            mount: "transit".into(),
            key: "k".into(),
        };
        let role = Credential::Kubernetes {
            mount: "kubernetes".into(),
            role: "r".into(),
            token_path: "/cofferdam/credentials/0/token".into(),
        };
        let of = |provider: &Provider, credential: &Credential| {
            let profile = Profile {
                provider: provider.clone(),
                credential: credential.clone(),
                ..profile("https://k")
            };
            provider_config(&profile, Transport::Https).map(|(_, provider)| provider)
        };
        let Profile { provider, credential, .. } = profile("https://k");
        assert_eq!(of(&provider, &credential), Ok(envelope::Provider::KeyProtect));
        assert_eq!(of(&transit, &role), Ok(envelope::Provider::Transit));
        assert_eq!(of(&transit, &credential), Err(ConfigError::Credential));
        assert_eq!(of(&provider, &role), Err(ConfigError::Credential));
    }

    #[test]
    fn a_poll_interval_is_held_between_one_and_thirty_seconds() {
        let mut profile = profile("https://k");
        assert_eq!(Lifetimes::of(&profile).poll, Duration::from_secs(1));
        profile.poll_seconds = 3600;
        let lifetimes = Lifetimes::of(&profile);
        assert_eq!((lifetimes.poll, lifetimes.grace), (Duration::from_secs(30), Duration::from_secs(7)));
    }
}
