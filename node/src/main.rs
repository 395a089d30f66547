//! The program `cofferdam-node`: one for each node, privileged, in the host's pid namespace.
//!
//! Invariant: what was published before is taken up before kubelet or a sidecar can ask.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use clap::Parser;
use contract::names::CSI_DRIVER;
use node::announce::KubeEvents;
use node::control::{Control, PATIENCE};
use node::csi::{Driver, Settings};
use node::deadline::Watchdog;
use node::health::{Health, router};
use node::injected::Expected;
use node::kernel::Kernel;
use node::metrics::Metrics;
use node::options::Options;
use node::record::Records;
use node::registration::{self, REGISTRATION_SOCKET, Registered, Registration};
use node::session::Sessions;
use node::target::KubeletRoot;
use node::watch::KubePods;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    let result = run(options).await;
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "the driver ends");
    }
    result
}

async fn run(options: Options) -> Result<()> {
    let metrics = Metrics::default();
    let client = kube::Client::try_default().await.context("find the API server")?;
    let pods = KubePods::new(client.clone());
    let announce = Arc::new(KubeEvents::new(client, options.node_name.clone()));
    let sessions = sessions(&options, metrics.clone())?;
    let dir = options.kubelet_root.join("plugins").join(CSI_DRIVER);
    let control = Control::new(
        sessions.clone(),
        pods.clone(),
        announce.clone(),
        metrics.clone(),
        dir.join("ctl"),
        PATIENCE,
    )?;
    let expected = Expected { images: options.images.clone(), node: options.node_name.clone() };
    let settings = Settings { expected, run_bytes: options.run_bytes };
    let driver =
        Driver::new(settings, sessions.clone(), control, pods.clone(), announce.clone(), metrics.clone());
    let driver = Arc::new(driver);
    driver.recover().context("take up what was published before")?;

    tokio::spawn(pods.clone().run(options.node_name.clone()));
    let rounds = Arc::new(AtomicU64::new(0));
    let deadlines = options.deadlines();
    let watchdog = Watchdog { sessions, pods: pods.clone(), announce, deadlines, rounds: rounds.clone() };
    tokio::spawn(watchdog.run());

    let endpoint = dir.join("csi.sock");
    let csi = registration::listen(&endpoint).context("listen for kubelet")?;
    let registration_socket = options.kubelet_root.join("plugins_registry").join(REGISTRATION_SOCKET);
    let (result, registered) = watch::channel(Registered::NotYet);
    let registration = Registration { endpoint, result };
    let plugin = registration::listen(&registration_socket).context("listen for kubelet's plugin watcher")?;
    let known = Arc::new(move || pods.is_ready());
    let health = Health::new(metrics, registered.clone(), known, rounds);
    let http = tokio::net::TcpListener::bind(options.metrics_address).await.context("listen for metrics")?;
    tracing::info!(node = options.node_name, "the driver is up");

    tokio::select! {
        result = registration::serve_csi(csi, driver) => result.context("serve CSI")?,
        result = registration::serve_registration(plugin, registration) => result.context("serve registration")?,
        result = async { axum::serve(http, router(health)).await } => result.context("serve metrics")?,
        refusal = refused(registered) => anyhow::bail!("kubelet refused the driver: {refusal}"),
        result = ended_by_signal() => result?,
    }
    // Kubelet forgets the driver: after an uninstallation it must not call into nothing.
    fs::remove_file(&registration_socket).context("remove the registration socket")?;
    // Without an orderly end of the leases: their sidecars resume them with the next driver.
    std::process::exit(contract::exit::OK);
}

fn sessions(options: &Options, metrics: Metrics) -> Result<Arc<Sessions>> {
    let configured = options.kubelet_root.clone();
    let real = fs::canonicalize(&configured).context("find kubelet's root directory")?;
    let dir = configured.join("plugins").join(CSI_DRIVER);
    // Nobody but the driver and kubelet has business here; a pod's socket is reached through its own mount.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).context("make the driver's directory")?;
    let records = Records::open(dir.join("state"))?;
    let kernel = Kernel::new(options.fusectl.clone())?;
    Ok(Arc::new(Sessions::new(kernel, KubeletRoot::new(configured, real), records, metrics)))
}

/// Resolves when kubelet refuses the registration; the restarted driver asks again.
async fn refused(mut registered: watch::Receiver<Registered>) -> String {
    loop {
        if let Registered::Refused(error) = &*registered.borrow_and_update() {
            return error.clone();
        }
        if registered.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn ended_by_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the driver ends on a signal");
    Ok(())
}
