//! Which certificates are trusted, and the client that trusts them.
//!
//! Invariant: with a CA bundle nothing else is trusted; a bundle that cannot be read is an outage, never "trust all".

use std::sync::Mutex;

use reqwest::{Certificate, Client, Proxy, redirect};

use super::HttpConfig;
use super::watched::{Stamp, WatchedFile};
use crate::config::{CaSource, ConfigError};
use crate::error::{ErrorKind, Outage};

/// Builds clients, and builds a new one when the CA bundle changes.
pub(super) struct Trust {
    config: HttpConfig,
    source: Source,
}

enum Source {
    Fixed(Client),
    File { file: WatchedFile, path: String, built: Mutex<Option<(Client, Stamp)>> },
}

impl Trust {
    pub(super) fn new(config: HttpConfig) -> Result<Self, ConfigError> {
        let source = match &config.ca {
            None => Source::Fixed(build(&config, None)?),
            Some(CaSource::Pem { pem }) => Source::Fixed(build(&config, Some(pem.as_bytes()))?),
            Some(CaSource::File { path }) => {
                Source::File { file: WatchedFile::new(path), path: path.clone(), built: Mutex::new(None) }
            }
        };
        Ok(Self { config, source })
    }

    /// The client for the next request. A bundle that became unreadable leaves the last client in use.
    pub(super) async fn client(&self) -> Result<Client, ErrorKind> {
        let (file, path, built) = match &self.source {
            Source::Fixed(client) => return Ok(client.clone()),
            Source::File { file, path, built } => (file, path, built),
        };
        let last = built.lock().expect("no holder of this lock panics").clone();
        if let Some((client, stamp)) = &last
            && !file.changed_since(stamp).await
        {
            return Ok(client.clone());
        }
        let Some((client, stamp)) = self.rebuild(file).await else {
            tracing::warn!(%path, "cannot use the ca bundle of the kms");
            let unusable = ErrorKind::Unavailable { why: Outage::CaUnreadable, retry_after: None };
            return last.map(|(client, _)| client).ok_or(unusable);
        };
        *built.lock().expect("no holder of this lock panics") = Some((client.clone(), stamp));
        Ok(client)
    }

    async fn rebuild(&self, file: &WatchedFile) -> Option<(Client, Stamp)> {
        let (pem, stamp) = file.read().await.ok()?;
        let client = build(&self.config, Some(&pem)).ok()?;
        Some((client, stamp))
    }
}

fn build(config: &HttpConfig, ca: Option<&[u8]>) -> Result<Client, ConfigError> {
    let mut builder = Client::builder()
        .https_only(config.https_only)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(config.connect_timeout)
        .timeout(config.attempt_timeout)
        .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca {
        let certificates = Certificate::from_pem_bundle(pem).map_err(|_| ConfigError::Ca)?;
        if certificates.is_empty() {
            return Err(ConfigError::Ca);
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(url) = &config.proxy {
        // Of https alone: the proxy carries what it cannot read, and never sees a token.
        builder = builder.proxy(Proxy::https(url.clone()).map_err(|_| ConfigError::Proxy)?);
    }
    // With a bundle, what fails is a certificate that is none.
    builder.build().map_err(|_| if ca.is_some() { ConfigError::Ca } else { ConfigError::Tls })
}
