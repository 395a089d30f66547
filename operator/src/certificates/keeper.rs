//! Keeps the material in step with the Secret, the servers and the webhook configurations.
//!
//! Invariant: replicas agree through the Secret's resourceVersion: whoever comes second takes what the first has written.

use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use tokio::sync::watch;

use super::issue::IssueError;
use super::material::{Material, Serving, renewed};
use super::{ca_bundle, secret};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// How often everything is looked at.
const PERIOD: Duration = Duration::from_secs(30);
/// How often a replica tries again after another one was faster.
const ATTEMPTS: usize = 5;

/// The certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The Secret.
    #[error("read the Secret with the operator's certificates")]
    Read(#[source] kube::Error),
    /// The Secret.
    #[error("write the Secret with the operator's certificates")]
    Write(#[source] kube::Error),
    /// Another replica was faster each time.
    #[error("agree with the other replicas on certificates")]
    Agree,
    /// No new certificate.
    #[error("renew a certificate")]
    Issue(#[from] IssueError),
    /// The TLS stack did not take it.
    #[error("use the serving certificate")]
    Use(#[source] rustls::Error),
    /// The PEM in the Secret is damaged.
    #[error("read the serving certificate")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// The webhook configurations.
    #[error("put the authorities into the webhook configurations")]
    CaBundle(#[source] kube::Error),
}

/// Holds the certificates of one replica.
pub struct Keeper {
    client: Client,
    settings: Settings,
    metrics: Metrics,
    tls: RustlsConfig,
    bundle: watch::Sender<String>,
    first: String,
}

impl Keeper {
    /// Reads or makes the certificates.
    pub async fn start(client: Client, settings: Settings, metrics: Metrics) -> Result<Self, KeeperError> {
        let material = agree(&client, &settings).await?;
        let tls = RustlsConfig::from_config(server_config(&material.serving)?);
        let (bundle, _) = watch::channel(material.bundle());
        let first = material.serving.certificate.clone();
        let keeper = Self { client, settings, metrics, tls, bundle, first };
        keeper.report(&material);
        Ok(keeper)
    }

    /// What servers serve with; it changes without a restart.
    pub fn tls(&self) -> RustlsConfig {
        self.tls.clone()
    }

    /// The authorities that clients are to trust, as a PEM bundle.
    pub fn bundle(&self) -> watch::Receiver<String> {
        self.bundle.subscribe()
    }

    /// Goes on for ever.
    pub async fn run(self) {
        let mut served = Some(self.first.clone());
        loop {
            if let Err(error) = self.look(&mut served).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "certificates");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn look(&self, served: &mut Option<String>) -> Result<(), KeeperError> {
        let material = agree(&self.client, &self.settings).await?;
        if served.as_ref() != Some(&material.serving.certificate) {
            self.tls.reload_from_config(server_config(&material.serving)?);
            *served = Some(material.serving.certificate.clone());
            self.report(&material);
        }
        let bundle = material.bundle();
        let name = &self.settings.webhook_configuration;
        ca_bundle::ensure(&self.client, name, &bundle).await.map_err(KeeperError::CaBundle)?;
        self.bundle.send_if_modified(|known| {
            let changed = *known != bundle;
            *known = bundle;
            changed
        });
        Ok(())
    }

    fn report(&self, material: &Material) {
        self.metrics.certificate_expiry("serving", material.serving.not_after);
        if let Some(authority) = material.authorities.last() {
            self.metrics.certificate_expiry("authority", authority.not_after);
        }
        let (issuer, not_after) = (&material.serving.issuer, material.serving.not_after);
        tracing::info!(
            issuer,
            not_after,
            authorities = material.authorities.len(),
            "serving certificate loaded"
        );
    }
}

/// The material that all replicas use, renewed if it is time.
async fn agree(client: &Client, settings: &Settings) -> Result<Material, KeeperError> {
    let api = Api::<Secret>::namespaced(client.clone(), &settings.namespace);
    for _ in 0..ATTEMPTS {
        let found = api.get_opt(secret::NAME).await.map_err(KeeperError::Read)?;
        let material = found.as_ref().and_then(secret::read);
        if found.is_some() && material.is_none() {
            tracing::warn!("the Secret with the operator's certificates is damaged and is made anew");
        }
        let now = Timestamp::now().as_second();
        let Some(next) = renewed(material.as_ref(), &settings.dns_names(), now)? else {
            return Ok(material.expect("nothing to renew means that there is something"));
        };
        let version = found.and_then(|secret| secret.metadata.resource_version);
        let written = match version {
            None => api.create(&PostParams::default(), &secret::write(&next, None)).await,
            version => {
                api.replace(secret::NAME, &PostParams::default(), &secret::write(&next, version)).await
            }
        };
        match written {
            Ok(_) => return Ok(next),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(KeeperError::Write(error)),
        }
    }
    Err(KeeperError::Agree)
}

fn server_config(serving: &Serving) -> Result<Arc<ServerConfig>, KeeperError> {
    let chain = CertificateDer::pem_slice_iter(serving.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key =
        PrivateKeyDer::from_pem_slice(serving.key.expose_secret().as_bytes()).map_err(KeeperError::Pem)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(KeeperError::Use)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(KeeperError::Pem)?, key)
        .map_err(KeeperError::Use)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
