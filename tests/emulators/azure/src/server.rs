//! A running emulator: what it starts with, its listeners, and the hand of a test on it. Invariant: when `start` returns it
//! answers; when it is dropped, it does not.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::clock::Clock;
use crate::http::{App, LogEntry, router};
use crate::key::{Key, Version};
use crate::material::Material;
use crate::principal::{Application, Permission};
use crate::token::Tokens;
use crate::vault::Vault;

/// Which of the two services it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Key Vault: RSA keys.
    KeyVault,
    /// Managed HSM: symmetric keys, too.
    ManagedHsm,
}

impl Product {
    /// The audience of its tokens.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::KeyVault => "https://vault.azure.net",
            Self::ManagedHsm => "https://managedhsm.azure.net",
        }
    }
}

/// A key that is there from the start.
#[derive(Clone, Debug)]
pub struct SeedKey {
    /// Its name.
    pub name: String,
    /// `RSA`, `RSA-HSM` or `oct-HSM`.
    pub kty: &'static str,
    /// The material of its only version.
    pub material: Material,
    /// When it expires, in seconds from the start.
    pub expires_in: Option<i64>,
}

/// What an emulator starts with.
pub struct Config {
    /// The tenant's id.
    pub tenant: String,
    /// Which service.
    pub product: Product,
    /// It is a Managed HSM that takes tokens of Key Vault, as a caller asks for who cannot tell the two by a loopback address.
    pub any_audience: bool,
    /// Who may call.
    pub applications: Vec<Application>,
    /// Keys that are there; none where a snapshot is given.
    pub keys: Vec<SeedKey>,
    /// What [`Emulator::snapshot`] gave before.
    pub snapshot: Option<Value>,
}

/// A vault that runs until it is dropped.
pub struct Emulator {
    app: Arc<App>,
    http: SocketAddr,
    https: SocketAddr,
    ca_pem: String,
    /// Ends every connection when it is dropped.
    runtime: Option<Runtime>,
}

fn vault(keys: Vec<SeedKey>, snapshot: Option<Value>) -> Vault {
    if let Some(snapshot) = snapshot {
        assert!(keys.is_empty(), "either keys or a snapshot");
        return serde_json::from_value(snapshot).unwrap();
    }
    let now = Clock::default().now();
    let made = |seed: SeedKey| {
        let ops = ["wrapKey", "unwrapKey"].map(String::from).to_vec();
        let mut version = Version::new(seed.kty, ops, seed.material, now);
        version.attributes.exp = seed.expires_in.map(|seconds| now + seconds);
        (seed.name.to_ascii_lowercase(), Key::new(&seed.name, version))
    };
    Vault { keys: keys.into_iter().map(made).collect(), tokens: Tokens::new(), ahead_by: 0 }
}

impl Emulator {
    /// Starts one on free ports of loopback.
    pub fn start(config: Config) -> Self {
        let Config { tenant, product, any_audience, applications, keys, snapshot } = config;
        let audience = if any_audience { Product::KeyVault } else { product };
        let vault = vault(keys, snapshot);
        let app = Arc::new(App {
            tenant,
            product,
            audience: audience.resource(),
            clock: Clock::ahead_by(vault.ahead_by),
            vault: vault.into(),
            applications: applications.into(),
            log: Vec::new().into(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let guard = runtime.enter();
        let (listener, http) = listen();
        let routes = router(Arc::clone(&app), "http").into_make_service();
        let served = axum_server::from_tcp(listener).unwrap().serve(routes);
        tokio::spawn(async move { served.await.unwrap() });
        let (listener, https) = listen();
        let (tls, ca_pem) = certificate();
        let routes = router(Arc::clone(&app), "https").into_make_service();
        let served = axum_server::from_tcp_rustls(listener, tls).unwrap().serve(routes);
        tokio::spawn(async move { served.await.unwrap() });
        drop(guard);
        Self { app, http, https, ca_pem, runtime: Some(runtime) }
    }

    /// Where it listens for plain http.
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// `https://127.0.0.1:PORT`.
    pub fn https_url(&self) -> String {
        format!("https://{}", self.https)
    }

    /// The authority of its certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Moves its clock forward.
    pub fn advance(&self, time: Duration) {
        self.app.clock.advance(i64::try_from(time.as_secs()).unwrap());
    }

    /// Says anew what an application may do.
    pub fn permit(&self, client_id: &str, permissions: &[Permission]) {
        let mut applications = self.app.applications.lock().unwrap();
        let application = applications.iter_mut().find(|application| application.client_id == client_id);
        application.unwrap().permissions = permissions.iter().copied().collect();
    }

    /// Makes every token so far worthless.
    pub fn revoke_tokens(&self) {
        self.app.vault().tokens.revoke_all();
    }

    /// Enables or disables every version of a key but the current one.
    pub fn enable_old_versions(&self, name: &str, enabled: bool) {
        let mut vault = self.app.vault();
        let versions = &mut vault.keys.get_mut(&name.to_ascii_lowercase()).unwrap().versions;
        let old = versions.len() - 1;
        for version in &mut versions[..old] {
            version.attributes.enabled = enabled;
        }
    }

    /// Keys that are not deleted.
    pub fn count_keys(&self) -> usize {
        self.app.vault().keys.values().filter(|key| key.deleted.is_none()).count()
    }

    /// What a version finds in a wrapped value, without anybody's permission.
    pub fn unwrapped(&self, name: &str, version: &str, algorithm: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut vault = self.app.vault();
        let key = vault.keys.get_mut(&name.to_ascii_lowercase())?;
        key.version_mut(Some(version))?.material.unwrap(algorithm, sealed)
    }

    /// The diagnostic log so far.
    pub fn log(&self) -> Vec<LogEntry> {
        self.app.log.lock().unwrap().clone()
    }

    /// All that it keeps over a restart.
    pub fn snapshot(&self) -> Value {
        let mut vault = self.app.vault().clone();
        vault.ahead_by = self.app.clock.offset();
        serde_json::to_value(vault).unwrap()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// A certificate for loopback, and its authority.
fn certificate() -> (RustlsConfig, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the emulator's authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key, &authority).unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (RustlsConfig::from_config(Arc::new(config)), authority.pem())
}
