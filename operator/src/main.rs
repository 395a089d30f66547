//! The program `cofferdam-operator`: servers in every replica, controllers in the leader.
//!
//! Invariant: it only wires; what is decided is decided in the library.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use audit::Trail;
use axum::Router;
use axum_server::Handle;
use clap::{Parser, Subcommand};
use contract::audit::Who;
use kube::Client;
use operator::certificates::{Keeper, publish};
use operator::check_in::{self, CheckIns};
use operator::controllers::events::Events;
use operator::controllers::{self, AllowedEndpoints, Connections, Figures, IdentityTokens, Rules, Shared};
use operator::health::{self, Readiness};
use operator::https::{self, Limits};
use operator::leader::Election;
use operator::metrics::Metrics;
use operator::settings::Settings;
use operator::stores::Stores;
use operator::webhook::facts::Source;
use operator::webhook::server::{self, Webhook};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long requests that are under way may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);
/// How long new connections are still taken after SIGTERM, while endpoints are being updated.
const LINGER: Duration = Duration::from_secs(3);

/// The operator of Cofferdam.
#[derive(Debug, Parser)]
#[command(name = "cofferdam-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in a cluster.
    Run(Box<Settings>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Run(settings) = Arguments::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    match run(*settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_default().await.context("find the API server")?;
    let (metrics, readiness) = (Metrics::default(), Readiness::default());
    let handles = [Handle::new(), Handle::new(), Handle::new()];
    let health = health::router(readiness.clone(), metrics.clone());
    let health = tokio::spawn(serve_http(settings.health_address, health, handles[0].clone()));

    let (stores, filling) = Stores::new(&client);
    tokio::spawn(filling);
    let keeper = Keeper::start(client.clone(), settings.clone(), metrics.clone()).await?;
    readiness.certificate_loaded();
    let (tls, bundle) = (keeper.tls(), keeper.bundle());
    tokio::spawn(keeper.run());
    tokio::spawn(announce_stores(stores.clone(), readiness));

    let source = Source { client: client.clone(), stores: stores.clone() };
    let webhook = Webhook { source, injection: settings.injection.clone(), metrics: metrics.clone() };
    let webhook = server::router(Arc::new(webhook));
    let limits = Limits::default();
    let webhook = https::serve(settings.webhook_address, webhook, tls.clone(), handles[1].clone(), limits);
    let webhook = tokio::spawn(webhook);
    let check_ins =
        CheckIns::new(impatient_client().await?, metrics.with_registry(check_in::Metrics::register));
    let check_ins = check_in::router(check_ins);
    let check_in = https::serve(settings.check_in_address, check_ins, tls, handles[2].clone(), limits);
    let check_in = tokio::spawn(check_in);

    let shared = Arc::new(Shared {
        client: client.clone(),
        events: Events::new(client.clone()),
        connections: Connections::new(rules(&settings).await, trail(&settings)),
        jobs: settings.injection.clone(),
        figures: metrics.with_registry(Figures::register),
    });
    let leading = Election::new(client.clone(), &settings.namespace, &settings.pod_name).run(
        |leads| metrics.leader(leads),
        || lead(shared.clone(), publish::run(client.clone(), stores.clone(), bundle.clone())),
    );
    tokio::select! {
        ended = health => ended.context("join the health server")?.context("serve health")?,
        ended = webhook => ended.context("join the webhook")?.context("serve the webhook")?,
        ended = check_in => ended.context("join the check-in server")?.context("serve check-ins")?,
        () = leading => {}
        () = shutdown(&handles) => {}
    }
    Ok(())
}

/// The audit trail of this replica.
fn trail(settings: &Settings) -> Arc<Trail> {
    let (pod, namespace) = (Some(settings.pod_name.clone()), Some(settings.namespace.clone()));
    Trail::stdout(Who { pod, namespace, ..Who::program("operator") })
}

/// Where profiles may lead. Out of a cluster the operator has no token of its own, and the API server's usual audience alone is
/// known.
async fn rules(settings: &Settings) -> Rules {
    let own = tokio::fs::read_to_string(operator::API_TOKEN_FILE).await.unwrap_or_default();
    Rules {
        allowed_endpoints: AllowedEndpoints::new(
            settings.allowed_endpoints.clone(),
            settings.pkcs11_modules.clone(),
        ),
        identity_tokens: IdentityTokens::of_cluster(settings.identity_token_endpoints.clone(), &own),
    }
}

/// A client that reports an overloaded API server, or a disruption budget that forbids an eviction, at once.
async fn impatient_client() -> Result<Client> {
    let mut config = kube::Config::infer().await.context("find the API server")?;
    config.default_retry = false;
    Client::try_from(config).context("make a client for check-ins")
}

async fn announce_stores(stores: Stores, readiness: Readiness) {
    stores.ready().await;
    readiness.stores_filled();
}

/// What the leader does. It is dropped where it stands when the lease is lost.
async fn lead(shared: Arc<Shared>, publishing: impl Future<Output = ()>) {
    tokio::select! {
        () = controllers::run(shared) => {}
        () = publishing => {}
    }
}

async fn serve_http(address: SocketAddr, router: Router, handle: Handle<SocketAddr>) -> std::io::Result<()> {
    axum_server::bind(address).handle(handle).serve(router.into_make_service()).await
}

/// Resolves when the program was asked to end and its requests are answered.
async fn shutdown(handles: &[Handle<SocketAddr>]) {
    let mut terminate = signal(SignalKind::terminate()).expect("the runtime handles signals");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("ending");
    tokio::time::sleep(LINGER).await;
    for handle in handles {
        handle.graceful_shutdown(Some(DRAIN));
    }
    while handles.iter().any(|handle| handle.connection_count() > 0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
