//! The cluster, through a kubeconfig: profiles, their Secrets, tokens, volumes, nodes.
//!
//! Invariant: it reads, and asks for tokens; it changes nothing. A Secret's content leaves it only as a secret.

use std::time::Duration;

use api::profile::CaBundle;
use api::{EncryptedVolume, KmsProfile};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, ServiceAccount};
use kms::SecretString;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};

use crate::args::CommonArgs;
use crate::subject::Gap;

/// Life of a token that is asked for, in seconds: the least that the API server gives.
const TOKEN_SECONDS: i64 = 600;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster.
pub struct Cluster {
    client: Client,
    /// The context's namespace, or the one on the command line.
    pub namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig; makes no call.
    pub async fn open(args: &CommonArgs) -> Result<Self, Gap> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match &args.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let mut config = config.map_err(|error| unusable(&error))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.default_retry = false;
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| gap(&error, "use the kubeconfig", ""))?;
        Ok(Self { client, namespace })
    }

    /// A namespace, or where it is not named that of this cluster's context.
    pub fn or_own<'a>(&'a self, namespace: &'a str) -> &'a str {
        if namespace.is_empty() { &self.namespace } else { namespace }
    }

    /// A profile.
    pub async fn profile(&self, namespace: &str, name: &str) -> Result<KmsProfile, Gap> {
        let api = Api::<KmsProfile>::namespaced(self.client.clone(), namespace);
        api.get(name).await.map_err(|error| gap(&error, &format!("KmsProfile {namespace}/{name}"), ""))
    }

    /// The profiles of a namespace, or of all.
    pub async fn profiles(&self, namespace: Option<&str>) -> Result<Vec<KmsProfile>, Gap> {
        let (api, what): (Api<KmsProfile>, _) = match namespace {
            Some(namespace) => (
                Api::namespaced(self.client.clone(), namespace),
                format!("the KmsProfiles of namespace {namespace}"),
            ),
            None => (Api::all(self.client.clone()), "the KmsProfiles of all namespaces".to_owned()),
        };
        let listed = api.list(&ListParams::default()).await.map_err(|error| gap(&error, &what, ""))?;
        Ok(listed.items)
    }

    /// The text under a key of a Secret.
    pub async fn secret(&self, namespace: &str, name: &str, key: &str) -> Result<SecretString, Gap> {
        let what = format!("Secret {namespace}/{name}");
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let secret =
            api.get(name).await.map_err(|error| gap(&error, &what, "; or give its content with --secret"))?;
        let value = secret.data.and_then(|mut data| data.remove(key));
        let text = value.and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default();
        if text.trim().is_empty() {
            return Err(Gap::wrong(format!("{what} has no text under the key {key}")));
        }
        Ok(SecretString::from(text))
    }

    /// The certificate authorities of a KMS.
    pub async fn authority(&self, namespace: &str, bundle: &CaBundle) -> Result<String, Gap> {
        let what = format!("ConfigMap {namespace}/{}", bundle.config_map);
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let map = api.get(&bundle.config_map).await;
        let map = map.map_err(|error| gap(&error, &what, "; or give the certificates with --ca-file"))?;
        let pem = map.data.and_then(|mut data| data.remove(&bundle.key));
        pem.ok_or_else(|| Gap::wrong(format!("{what} has nothing under the key {}", bundle.key)))
    }

    /// A token of a service account, for one audience.
    pub async fn token(&self, namespace: &str, name: &str, audience: &str) -> Result<SecretString, Gap> {
        let what = format!("a token of ServiceAccount {namespace}/{name}");
        let spec = TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let made = api.create_token_request(name, &PostParams::default(), &request).await;
        let made = made.map_err(|error| gap(&error, &what, "; or give one with --secret"))?;
        let token = made.status.map(|status| status.token).filter(|token| !token.is_empty());
        token.map(SecretString::from).ok_or_else(|| Gap::outage(format!("{what}: the answer holds none")))
    }

    /// The records of all volumes.
    pub async fn volumes(&self) -> Result<Vec<EncryptedVolume>, Gap> {
        let api = Api::<EncryptedVolume>::all(self.client.clone());
        let listed = api.list(&ListParams::default()).await;
        listed
            .map(|list| list.items)
            .map_err(|error| gap(&error, "the EncryptedVolumes of all namespaces", ""))
    }

    /// The nodes.
    pub async fn nodes(&self) -> Result<Vec<Node>, Gap> {
        let api = Api::<Node>::all(self.client.clone());
        let listed = api.list(&ListParams::default()).await;
        listed.map(|list| list.items).map_err(|error| gap(&error, "the Nodes", ""))
    }
}

/// An error of the parser shows lines of the file, which holds tokens and keys.
fn unusable(error: &KubeconfigError) -> Gap {
    let why = match error {
        KubeconfigError::Parse(_) => "it cannot be parsed".to_owned(),
        other => other.to_string(),
    };
    Gap::wrong(format!("use the kubeconfig: {why}; name one with --kubeconfig, or a manifest with --file"))
}

/// What an error of the API server says of `what`. Its own message is not repeated: a program that logs in for the kubeconfig may
/// have put anything into it.
fn gap(error: &kube::Error, what: &str, instead: &str) -> Gap {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Gap::wrong(format!("{what}: there is none, or the cluster does not know its kind")),
            401 => Gap::refused(format!("{what}: the API server does not accept the kubeconfig's login")),
            403 => Gap::refused(format!("{what}: the API server does not allow it to this login{instead}")),
            code => Gap::outage(format!("{what}: the API server answers {code}: try again")),
        },
        kube::Error::Auth(_) => {
            Gap::refused(format!("{what}: the kubeconfig's login failed; kubectl shows why"))
        }
        kube::Error::SerdeError(_) => Gap::wrong(format!(
            "{what}: it cannot be understood; it was written for another version of this program"
        )),
        _ => Gap::outage(format!("{what}: the API server does not answer: try again")),
    }
}
