//! The sidecar from its first to its last moment.
//!
//! Invariant: on SIGTERM everything that was accepted is durable before the driver is told that the volumes end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::check_in::Role;
use contract::config::SidecarConfig;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::board::Board;
use super::context::{Context, Places, holder, trail};
use super::link::DriverLink;
use super::metrics::Metrics;
use super::orders::Order;
use super::session::{Door, supervise};
use super::{check_in_task, http, status_file, volume_task};
use crate::check_in::CheckInClient;
use crate::gate::ensure_key;

/// How long the ends of all volumes may take together.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Why the sidecar cannot begin.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The gate's key.
    #[error("write the gate's key")]
    GateKey(#[source] io::Error),
    /// Signals.
    #[error("listen for signals")]
    Signals(#[source] io::Error),
    /// A thread.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(config: SidecarConfig, places: Places) -> Result<(), ServeError> {
    let mut term = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let told = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    run_until(config, places, told).await
}

/// Serves until `told` is ready.
pub async fn run_until(
    config: SidecarConfig,
    places: Places,
    told: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let names = config.volumes.iter().map(|volume| (volume.name.clone(), volume.claim.clone()));
    let context = Arc::new(Context {
        board: Board::new(names),
        metrics: Arc::new(Metrics::default()),
        trail: trail("sidecar"),
        link: DriverLink::new(&places.ctl),
        gate_key: ensure_key(&places.run.join("gate.key")).map_err(ServeError::GateKey)?,
        holder: holder(),
        stop: watch::Sender::new(false),
        places,
        config,
    });
    let doors = start(&context)?;
    told.await;
    tracing::info!("ending");
    let _ = context.stop.send(true);
    if tokio::time::timeout(LAST_WORDS, end(&context, &doors)).await.is_err() {
        tracing::error!("the volumes did not end in time");
    }
    Ok(())
}

fn start(context: &Arc<Context>) -> Result<Vec<Arc<Door>>, ServeError> {
    let status = context.places.run.join("status.json");
    let board = context.board.clone();
    tokio::spawn(async move { status_file::keep(board, &status).await });
    if context.places.port != 0 {
        tokio::spawn(http::serve(context.places.port, context.board.clone(), Arc::clone(&context.metrics)));
    }
    let mut orders = HashMap::new();
    let mut doors = Vec::new();
    for (config, row) in context.config.volumes.iter().zip(context.board.rows()) {
        let (sender, receiver) = watch::channel(Order::default());
        orders.insert(config.name.clone(), sender);
        let door =
            Arc::new(Door::new(&config.name, Arc::clone(row), context.gate_key.clone(), config.ownership));
        let supervisor = (Arc::clone(context), Arc::clone(row), Arc::clone(&door));
        let body = move || supervise(&supervisor.0, &supervisor.1, &supervisor.2);
        std::thread::Builder::new().name("session".into()).spawn(body).map_err(ServeError::Thread)?;
        let task = volume_task::run(
            Arc::clone(context),
            config.clone(),
            Arc::clone(row),
            Arc::clone(&door),
            receiver,
        );
        tokio::spawn(task);
        doors.push(door);
    }
    keep_link(context, &doors)?;
    let places = &context.places;
    if let Some(client) = CheckInClient::with_files(&context.config.operator_url, &places.ca, &places.token) {
        let (board, metrics) = (context.board.clone(), Arc::clone(&context.metrics));
        tokio::spawn(check_in_task::run(client, Role::Sidecar, board, metrics, orders));
    } else {
        // The channels of orders stay open, or their volumes would take it for the end.
        let stopped = Arc::clone(context);
        tokio::spawn(async move {
            stopped.stopped().await;
            drop(orders);
        });
    }
    Ok(doors)
}

/// Looks after the connection to the driver, from a thread of its own: its calls block. It sends the beats too, for those
/// volumes whose own threads get on.
fn keep_link(context: &Arc<Context>, doors: &[Arc<Door>]) -> Result<(), ServeError> {
    let (context, doors) = (Arc::clone(context), doors.to_vec());
    let body = move || {
        // What still serves while the process ends must not look as if it hung.
        while !*context.stop.borrow() || context.link.holds_any() {
            context.link.keep();
            for door in &doors {
                door.attest(&context, Instant::now());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    std::thread::Builder::new().name("driver".into()).spawn(body).map_err(ServeError::Thread)?;
    Ok(())
}

/// Makes everything durable, tells the driver, gives the leases back.
async fn end(context: &Arc<Context>, doors: &[Arc<Door>]) {
    for (door, row) in doors.iter().zip(context.board.rows()) {
        let (context, door, name) = (Arc::clone(context), Arc::clone(door), row.name.clone());
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(served) = door.served() {
                served.fs.seal_closed();
                if let Err(error) = rustix::fs::syncfs(&served.root) {
                    tracing::error!(volume = %name, %error, "cannot make the volume durable");
                }
            }
            if let Err(error) = context.link.detach(&name) {
                tracing::warn!(volume = %name, error = &error as &dyn std::error::Error, "cannot detach");
            }
            door
        });
        if let Ok(door) = ended.await
            && let Some(served) = door.served()
            && let Some(volume) = served.volume.lock().await.take()
        {
            served.keys.forget();
            served.root_key.purge();
            let released = tokio::task::spawn_blocking(move || volume.lease.release()).await;
            if released.is_err() {
                tracing::error!(volume = %row.name, "the release of the lease was cut short");
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/pod.rs"]
mod tests;
