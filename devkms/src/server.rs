//! A running server: listeners and a runtime of its own, so that it can be started from any test. Invariant: when `start` returns, every
//! port answers; when the server is dropped, none does.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::runtime::Runtime;

use crate::audit::Event;
use crate::clock::Seconds;
use crate::config::{Config, Rules};
use crate::http::connection::CuttableAcceptor;
use crate::http::faults::Fault;
use crate::http::{App, control, router};
use crate::metrics::Tally;
use crate::service::{Service, SetupError};
use crate::store::StoreError;
use crate::tls::{self, TlsError};

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("set the service up")]
    Setup(#[from] SetupError),
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error("start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("prepare https")]
    Tls(#[from] TlsError),
}

/// A KMS that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    control: SocketAddr,
    ca_pem: Option<String>,
    /// Ends every connection when the server is dropped.
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts a server; blocks the caller for a few milliseconds.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let app = Arc::new(App::new(Service::new(config.store.as_deref(), config.seed, config.rules)?));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("devkms")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let mut server =
            Self { app, http: None, https: None, control: config.control, ca_pem: None, runtime: None };
        let guard = runtime.enter();
        if let Some(at) = config.http {
            server.http = Some(server.serve_http(at)?);
        }
        if let Some(at) = config.https {
            let material = tls::prepare(&config.tls)?;
            server.ca_pem = material.ca_pem;
            let tls = RustlsConfig::from_config(material.server);
            server.https = Some(server.serve_https(at, tls)?);
        }
        let (listener, at) = listen(config.control)?;
        server.control = at;
        let routes = control::router(server.app.clone()).into_make_service();
        let listener = axum_server::from_tcp(listener).map_err(|e| StartError::Listen(at, e))?;
        tokio::spawn(run(listener.serve(routes)));
        tokio::spawn(tick(server.app.clone()));
        drop(guard);
        server.runtime = Some(runtime);
        Ok(server)
    }

    fn serve_http(&self, at: SocketAddr) -> Result<SocketAddr, StartError> {
        let (listener, at) = listen(at)?;
        let listener = axum_server::from_tcp(listener).map_err(|e| StartError::Listen(at, e))?;
        let routes = router(self.app.clone()).into_make_service();
        tokio::spawn(run(listener.acceptor(CuttableAcceptor).serve(routes)));
        Ok(at)
    }

    fn serve_https(&self, at: SocketAddr, tls: RustlsConfig) -> Result<SocketAddr, StartError> {
        let (listener, at) = listen(at)?;
        let acceptor = RustlsAcceptor::new(tls).acceptor(CuttableAcceptor);
        let listener = axum_server::from_tcp(listener).map_err(|e| StartError::Listen(at, e))?;
        let routes = router(self.app.clone()).into_make_service();
        tokio::spawn(run(listener.acceptor(acceptor).serve(routes)));
        Ok(at)
    }

    /// `http://ADDRESS` of the KMS and IAM; empty where it does not listen for http.
    pub fn url(&self) -> String {
        self.http.map_or_else(String::new, |at| format!("http://{at}"))
    }

    /// `https://ADDRESS` of the KMS and IAM; empty where it does not listen for https.
    pub fn https_url(&self) -> String {
        self.https.map_or_else(String::new, |at| format!("https://{at}"))
    }

    /// `http://ADDRESS` of the control port.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The certificate of the own CA, PEM.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u32) -> Result<Seconds, StoreError> {
        self.app.service.advance(seconds)
    }

    /// Orders a fault; returns its number.
    pub fn add_fault(&self, fault: Fault) -> u64 {
        self.app.faults.add(fault)
    }

    /// Takes every fault back; hanging requests end with a reset.
    pub fn clear_faults(&self) {
        self.app.faults.clear();
    }

    /// Changes the rules of time and status.
    pub fn set_rules(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.app.service.rules();
        change(&mut rules);
        self.app.service.set_rules(rules);
    }

    /// Takes every grant of an identity away; says whether there is such an identity.
    pub fn revoke_role(&self, identity: &str) -> bool {
        let mut state = self.app.service.lock();
        state.access.by_name_mut(identity).map(|i| i.grants.clear()).is_some()
    }

    /// Gives an identity its seeded grants back; says whether there is such an identity.
    pub fn restore_role(&self, identity: &str) -> bool {
        let mut state = self.app.service.lock();
        state.access.by_name_mut(identity).map(|i| i.grants = i.seeded.clone()).is_some()
    }

    /// Refuses every token issued so far to one identity, or to all; says how many identities that meets.
    pub fn revoke_tokens(&self, identity: Option<&str>) -> usize {
        self.app.service.lock().access.revoke_issued(identity)
    }

    /// The audit trail so far.
    pub fn audit(&self) -> Vec<Event> {
        self.app.audit.events(|_| true)
    }

    /// What was counted of an operation (`unwrap`, `metadata`, `token`, …) since the last reset.
    pub fn tally(&self, operation: &str) -> Tally {
        self.app.metrics.tallies().remove(operation).unwrap_or_default()
    }

    /// Starts the tallies anew.
    pub fn reset_tallies(&self) {
        self.app.metrics.reset_tallies();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A thread of its own, since a runtime must not be shut down from inside another one. Waiting for it frees
            // ports and store for whoever starts next.
            let end = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5)));
            let _ = end.join();
        }
    }
}

fn listen(at: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |e| StartError::Listen(at, e);
    let listener = TcpListener::bind(at).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok((listener, at))
}

async fn run(serve: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serve.await {
        tracing::error!(error = &error as &dyn std::error::Error, "serve");
    }
}

async fn tick(app: Arc<App>) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        tokio::task::block_in_place(|| app.service.tick());
    }
}
