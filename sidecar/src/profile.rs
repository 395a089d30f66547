//! From a configured profile to a root key that can be called.
//!
//! Invariant: provider, endpoint, root key and credential come from the configuration alone, never from a volume; keys and
//! credentials go through TLS, but where a person at an offline command said otherwise.

use std::sync::Arc;
use std::time::Duration;

use contract::config::{Profile, Provider};
use kms::observe::{Auditor, Logged, Observer, Unobserved};
use kms::{CaSource, ConfigError, Options, ProviderConfig};

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

/// Who is told of exchanges with the KMS.
#[derive(Clone)]
pub struct Told {
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// Who keeps the audit trail.
    pub auditor: Arc<dyn Auditor>,
}

impl Default for Told {
    /// Nobody counts, and the program's log is the trail.
    fn default() -> Self {
        Self { observer: Arc::new(Unobserved), auditor: Arc::new(Logged) }
    }
}

/// Connects to the root key of `profile`. Makes no call.
pub fn connect(profile: &Profile, transport: Transport, told: Told) -> Result<Arc<RootKey>, ConfigError> {
    let lifetimes = Lifetimes::of(profile);
    let Told { observer, auditor } = told;
    let (cache_ttl, outage_grace) = (lifetimes.ttl, lifetimes.grace);
    let options = Options { cache_ttl, outage_grace, observer, auditor, ..Options::default() };
    let config = ProviderConfig {
        provider: profile.provider.clone(),
        credential: profile.credential.clone(),
        ca: profile.ca_file.as_ref().map(|path| CaSource::File { path: path.clone() }),
        proxy: profile.proxy.clone(),
        allow_loopback_http: transport == Transport::LoopbackHttp,
    };
    let kms = kms::connect(&config, &options)?;
    Ok(Arc::new(RootKey::new(kms, config.key_ref(), named(&config.provider))))
}

/// The provider's name in a volume's headers.
fn named(provider: &Provider) -> envelope::Provider {
    match provider {
        Provider::Aws(_) => envelope::Provider::AwsKms,
        Provider::Azure(_) => envelope::Provider::AzureKeyVault,
        Provider::Google(_) => envelope::Provider::GoogleKms,
        Provider::KeyProtect(_) => envelope::Provider::KeyProtect,
        Provider::Pkcs11(_) => envelope::Provider::Pkcs11,
        Provider::Transit(_) => envelope::Provider::Transit,
    }
}

#[cfg(test)]
mod tests {
    use contract::config::{Credential, KeyProtect, Transit};

    use super::*;

    fn profile(endpoint: &str) -> Profile {
        Profile {
            namespace: "n".into(),
            name: "p".into(),
            provider: Provider::KeyProtect(KeyProtect {
                endpoint: endpoint.into(),
                iam_endpoint: "https://i".into(),
                instance: "x".into(),
                root_key: "r".into(),
                key_ring: None,
            }),
            credential: Credential::ApiKeyFile { path: "/k".into() },
            ca_file: None,
            proxy: None,
            poll_seconds: 0,
            key_ttl_seconds: 300,
            outage_grace_seconds: 7,
        }
    }

    #[test]
    fn plain_http_is_for_a_loopback_address_that_an_offline_command_was_allowed() {
        let connect =
            |endpoint: &str, transport| connect(&profile(endpoint), transport, Told::default()).is_ok();
        assert!(!connect("http://127.0.0.1:8080", Transport::Https));
        assert!(connect("http://127.0.0.1:8080", Transport::LoopbackHttp));
        assert!(!connect("http://10.0.0.1:8080", Transport::LoopbackHttp));
        assert!(connect("https://10.0.0.1:8080", Transport::Https));
    }

    #[test]
    fn a_credential_fits_its_provider_or_nothing_is_connected() {
        let transit = Provider::Transit(Transit {
            endpoint: "https://bao:8200".into(),
            namespace: None,
            mount: "transit".into(),
            key: "k".into(),
        });
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
            let connected = connect(&profile, Transport::Https, Told::default());
            connected.map(|_| named(provider))
        };
        let Profile { provider, credential, .. } = profile("https://k");
        assert_eq!(of(&provider, &credential).ok(), Some(envelope::Provider::KeyProtect));
        assert_eq!(of(&transit, &role).ok(), Some(envelope::Provider::Transit));
        assert_eq!(of(&transit, &credential).err(), Some(ConfigError::Credential));
        assert_eq!(of(&provider, &role).err(), Some(ConfigError::Credential));
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
