//! One volume's life: opened, as often as it takes; served while its root key may be used; suspended while it is refused.
//!
//! Invariant: the filesystem is told to suspend before anybody is told that it is suspended, and to resume before anybody is
//! told that it serves. Once another one has the volume nothing is written to it any more.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::audit::{Event, Subject, Word};
use contract::check_in::{KeyReport, VolumePhase, reasons};
use contract::config::Volume as VolumeConfig;
use tokio::runtime::Handle;

use super::board::Row;
use super::context::Context;
use super::orders::Orders;
use super::session::Door;
use crate::fs::{EncryptedFs, Options};
use crate::keys::{Access, BlockingKeys, KeySetup, KeyWatch, RootKey, Seen, VolumeKeys};
use crate::profile::{self, Lifetimes, Transport};
use crate::volume::{self, Lease, Purpose, Request, Volume, names, open_dir};

/// Between two tries to open a volume that something short-lived keeps from opening.
const SOON: Duration = Duration::from_secs(2);
/// Between two tries where a person must act first.
const LATER: Duration = Duration::from_secs(15);

/// A volume that is open.
pub struct Served {
    /// The volume; held for its lease.
    pub volume: tokio::sync::Mutex<Option<Volume>>,
    /// Its root, for `syncfs`.
    pub root: OwnedFd,
    /// Its filesystem.
    pub fs: Arc<EncryptedFs>,
    /// Its keys.
    pub keys: Arc<VolumeKeys>,
    /// The watch over its root key.
    pub watch: Arc<KeyWatch>,
    /// The root key.
    pub root_key: Arc<RootKey>,
    /// Another one has the volume: ends a sweep, and none begins any more.
    pub fenced: Arc<AtomicBool>,
}

impl Served {
    /// Another one has the volume: from now on nothing is written to it and no data served.
    pub async fn fence(&self) {
        self.fenced.store(true, Ordering::SeqCst);
        self.keys.end();
        let fs = Arc::clone(&self.fs);
        if tokio::task::spawn_blocking(move || fs.fence()).await.is_err() {
            tracing::error!("the suspension was cut short");
        }
    }
}

/// Runs one volume until the process ends.
pub async fn run(
    context: Arc<Context>,
    config: VolumeConfig,
    row: Arc<Row>,
    door: Arc<Door>,
    orders: Orders,
) {
    let Some(profile) = context.profile(&config).cloned() else {
        row.set_phase(
            VolumePhase::Failed,
            "ConfigInvalid",
            "the configuration names no profile for this volume",
        );
        return;
    };
    let told = context.told(&config, &profile);
    let auditor = Arc::clone(&told.auditor);
    let root_key = match profile::connect(&profile, Transport::Https, told) {
        Ok(root_key) => root_key,
        Err(error) => {
            row.set_phase(VolumePhase::Failed, "KmsConfigInvalid", error.to_string());
            return;
        }
    };
    let watch = Arc::new(KeyWatch::new(Arc::clone(&root_key), Lifetimes::of(&profile)));
    let looking = Arc::clone(&watch);
    tokio::spawn(async move { looking.run().await });
    let purpose = if config.read_only { Purpose::Read } else { Purpose::Write };
    let request = Request::of(&config, &context.places.raw, purpose, context.holder.clone());
    let volume = open(&request, &root_key, &watch, &row).await;
    let served = match serve_in_background(volume, &config, &root_key, &watch, &row).await {
        Ok(served) => served,
        Err(text) => {
            row.set_phase(VolumePhase::Failed, "VolumeUnsupported", text);
            return;
        }
    };
    served.fs.audit_by(auditor);
    door.open(Arc::clone(&served));
    if !config.read_only {
        let filling = Arc::clone(&served.keys);
        tokio::spawn(async move { filling.run().await });
        tokio::spawn(super::orders::run(
            Arc::clone(&served),
            config.clone(),
            Arc::clone(&row),
            orders,
            context.config.operator_url.is_empty(),
        ));
        let (keeping, row) = (Arc::clone(&served), Arc::clone(&row));
        tokio::spawn(async move { keep_lease(&keeping, &row).await });
    }
    follow(&served, &row).await;
}

/// Opens the volume, as often as it takes.
async fn open(request: &Request, root_key: &RootKey, watch: &KeyWatch, row: &Row) -> Volume {
    loop {
        let error = match volume::open(request, root_key).await {
            Ok(volume) => return volume,
            Err(error) => error,
        };
        let (phase, pause) = match &error {
            error if error.is_refusal() => (VolumePhase::Suspended, SOON * 2),
            error if error.is_waiting() => (VolumePhase::Waiting, SOON),
            _ => (VolumePhase::Failed, LATER),
        };
        row.update(|state| state.key = Some(key_report(&watch.seen())));
        row.set_phase(phase, error.reason(), error.explain());
        tokio::time::sleep(pause).await;
    }
}

/// As [`serve`], on a thread that may wait for the storage.
pub async fn serve_in_background(
    volume: Volume,
    config: &VolumeConfig,
    root_key: &Arc<RootKey>,
    watch: &Arc<KeyWatch>,
    row: &Arc<Row>,
) -> Result<Arc<Served>, String> {
    let (config, row) = (config.clone(), Arc::clone(row));
    let (root_key, watch) = (Arc::clone(root_key), Arc::clone(watch));
    let work = move || serve(volume, &config, &root_key, &watch, &row).map(Arc::new);
    let served = tokio::task::spawn_blocking(work).await;
    served.unwrap_or_else(|_| Err("serve the volume: it was cut short".into()))
}

/// Serves an open volume: its filesystem answers as soon as the watch has a proof.
pub fn serve(
    volume: Volume,
    config: &VolumeConfig,
    root_key: &Arc<RootKey>,
    watch: &Arc<KeyWatch>,
    row: &Row,
) -> Result<Served, String> {
    let marker = volume.region.marker();
    let options = Options {
        volume: marker.volume_id(),
        geometry: marker.geometry(),
        ownership: marker.options().ownership,
        strict: marker.options().strict,
        seal: marker.options().seal,
        read_only: config.read_only,
        storage_entries: config.storage_entries.clone(),
    };
    watch.set_marker(volume.region.clone());
    watch.look_now();
    let groups = open_dir(volume.dir(), names::GROUPS)
        .or_else(|_| volume.dir().try_clone_to_owned().map_err(|_| rustix::io::Errno::MFILE));
    let keys = Arc::new(VolumeKeys::new(KeySetup {
        root: Arc::clone(root_key),
        watch: Arc::clone(watch),
        volume: marker.volume_id(),
        accepted: config.accepted_origins.iter().filter_map(|id| id.parse().ok()).collect(),
        wrapping: config.wrapping,
        groups: groups.map_err(|error| format!("open the volume's own directory: {error}"))?,
    }));
    let blocking = Arc::new(BlockingKeys::new(Arc::clone(&keys), Handle::current()));
    let fs = EncryptedFs::new(volume.root(), options, blocking)
        .map_err(|error| format!("serve the volume: {error}"))?;
    let fs = Arc::new(fs);
    let _ = row.fs.set(Arc::clone(&fs));
    row.update(|state| state.marker = volume.marker_report());
    volume.warnings.iter().for_each(|word| row.warn(word));
    let root = volume.root().try_clone_to_owned().map_err(|error| format!("serve the volume: {error}"))?;
    Ok(Served {
        volume: tokio::sync::Mutex::new(Some(volume)),
        root,
        fs,
        keys,
        watch: Arc::clone(watch),
        root_key: Arc::clone(root_key),
        fenced: Arc::default(),
    })
}

/// Follows what the watch sees, for ever.
pub async fn follow(served: &Arc<Served>, row: &Row) {
    let mut changes = served.watch.subscribe();
    loop {
        let seen = changes.borrow_and_update().clone();
        apply(served, row, &seen).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn apply(served: &Arc<Served>, row: &Row, seen: &Seen) {
    row.update(|state| state.key = Some(key_report(seen)));
    let (phase, why) = match &seen.access {
        Access::Serving => {
            if served.fs.is_suspended() {
                served.fs.resume();
                record(served, "resume", "Ok".into());
            }
            let (reason, message) = match &seen.trouble {
                None => (reasons::SERVING, String::new()),
                Some(why) => (
                    why.reason,
                    format!("keys serve on for now, without a usable answer of the KMS: {}", why.message),
                ),
            };
            row.set_phase(VolumePhase::Serving, reason, message);
            return;
        }
        Access::Starting => return,
        Access::Suspended(why) => (VolumePhase::Suspended, why),
        Access::Unreachable(why) => (VolumePhase::Waiting, why),
    };
    if !served.fs.is_suspended() {
        let fs = Arc::clone(&served.fs);
        if tokio::task::spawn_blocking(move || fs.suspend()).await.is_err() {
            tracing::error!("the suspension was cut short");
        }
        served.keys.forget();
        record(served, "suspend", why.reason.into());
    }
    row.set_phase(phase, why.reason, why.message.clone());
}

/// Leaves a record of what became of the volume's keys.
fn record(served: &Served, operation: &'static str, outcome: Word) {
    let volume = Some(served.fs.volume().to_string());
    let subject = Subject { volume, ..Subject::default() };
    served.fs.auditor().record(Event::new(operation, outcome, subject));
}

/// Keeps the lease of a volume that is served, and fences the volume off when another one has taken it over.
pub async fn keep_lease(served: &Arc<Served>, row: &Row) {
    let Some(keeping) = served.volume.lock().await.as_ref().map(|volume| Lease::keep(&volume.lease)) else {
        return;
    };
    if let Err(error) = keeping.await {
        served.fence().await;
        row.give_up(error.reason(), error.explain());
    }
}

fn key_report(seen: &Seen) -> KeyReport {
    KeyReport { state: seen.state.unwrap_or("Unknown").to_owned(), current_version: seen.current.clone() }
}
