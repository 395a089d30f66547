//! The rewrap Job: sweeps volumes that no pod mounts, with a credential that need not be able to unwrap; or looks into one of which
//! nobody has reported a marker (`look`).
//!
//! Invariant: it holds the volume's lease, and says so on shared storage, or writes nothing; an outage is waited for; what it found has
//! reached the operator before it ends well.

mod look;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::check_in::{KeyReport, Role, VolumePhase, reasons};
use contract::config::{Profile, SidecarConfig, Volume as VolumeConfig};
use contract::exit;
use kms::CallCtx;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::check_in::CheckInClient;
use crate::keys::{KeyError, RootKey};
use crate::profile::{self, Told, Transport};
use crate::serve::board::{Board, Row};
use crate::serve::check_in_task;
use crate::serve::metrics::Metrics;
use crate::serve::{Places, auditor, holder, trail};
use crate::sweep::{Pace, Sweep, SweepError};
use crate::volume::{self, Guard, Purpose, Request, Volume, VolumeError, marker};

/// How long a lease is waited for before the Job gives way.
const LEASE_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the last report is tried.
const REPORT_PATIENCE: Duration = Duration::from_mins(2);

/// Why a Job ended before its end; becomes an exit code.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The configuration.
    #[error("use the configuration: {0}")]
    Config(String),
    /// The volume.
    #[error("open the volume")]
    Volume(#[source] VolumeError),
    /// The KMS.
    #[error("ask for the current key version")]
    Kms(#[source] KeyError),
    /// The sweep.
    #[error("sweep the volume")]
    Sweep(#[source] SweepError),
    /// The operator does not take the counts.
    #[error("report to the operator")]
    Report,
}

impl JobError {
    /// The exit code of `contract::exit`.
    pub fn code(&self) -> i32 {
        match self {
            Self::Config(_) => exit::CONFIG,
            Self::Volume(error) | Self::Sweep(SweepError::Volume(error)) => volume_code(error),
            Self::Kms(_) | Self::Sweep(SweepError::Refused(_)) => exit::REFUSED,
            Self::Sweep(SweepError::Cancelled) => exit::INCOMPLETE,
            Self::Sweep(_) => exit::FAILURE,
            Self::Report => exit::UNAVAILABLE,
        }
    }
}

/// The exit code for a volume that is not open.
pub fn volume_code(error: &VolumeError) -> i32 {
    match error {
        VolumeError::InUse { .. } => exit::UNAVAILABLE,
        VolumeError::Key(error) if error.is_refusal() => exit::REFUSED,
        VolumeError::Key(error) if error.is_outage() => exit::UNAVAILABLE,
        VolumeError::Plaintext { .. }
        | VolumeError::Marker(_)
        | VolumeError::MarkerMissing
        | VolumeError::WrongVolume { .. }
        | VolumeError::Vanished { .. }
        | VolumeError::NeverInitialised
        | VolumeError::Key(_) => exit::DATA,
        _ => exit::FAILURE,
    }
}

/// Sweeps every volume of the configuration, or looks into it.
pub async fn run(config: SidecarConfig, places: Places) -> Result<(), JobError> {
    let names = config.volumes.iter().map(|volume| (volume.name.clone(), volume.claim.clone()));
    let board = Board::new(names);
    let metrics = Arc::new(Metrics::default());
    let trail = trail("job");
    let client = || CheckInClient::with_files(&config.operator_url, &places.ca, &places.token);
    let reporting = client().map(|client| {
        let (board, metrics) = (board.clone(), Arc::clone(&metrics));
        tokio::spawn(check_in_task::run(client, Role::Job, board, metrics, HashMap::new()))
    });
    let cancelled = Arc::new(AtomicBool::new(false));
    cancel_on_signal(Arc::clone(&cancelled));
    let mut result = Ok(());
    for (volume, row) in config.volumes.iter().zip(board.rows()) {
        let done = if let Some(version) = &volume.look_for {
            look::look(volume, version, row, &places).await
        } else {
            let told = |profile: &Profile| Told {
                observer: metrics.observer(),
                auditor: auditor(&trail, volume, profile),
            };
            sweep(&config, volume, row, &places, told, &cancelled).await
        };
        row.sweep.ended();
        if let Err(error) = done {
            report_failure(row, &error);
            result = Err(error);
        }
    }
    if let Some(reporting) = reporting {
        reporting.abort();
    }
    if let Some(client) = client()
        && !last_report(client, &board).await
        && result.is_ok()
    {
        result = Err(JobError::Report);
    }
    result
}

fn cancel_on_signal(cancelled: Arc<AtomicBool>) {
    tokio::spawn(async move {
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            term.recv().await;
            tracing::info!("ending");
            cancelled.store(true, Ordering::Relaxed);
        }
    });
}

async fn sweep(
    config: &SidecarConfig,
    volume: &VolumeConfig,
    row: &Row,
    places: &Places,
    told: impl FnOnce(&Profile) -> Told,
    cancelled: &Arc<AtomicBool>,
) -> Result<(), JobError> {
    let no_profile = || JobError::Config("no profile for a volume".into());
    let profile = config.profiles.get(volume.profile).ok_or_else(no_profile)?;
    let root_key = profile::connect(profile, Transport::Https, told(profile))
        .map_err(|error| JobError::Config(error.to_string()))?;
    // The marker's own flags hold: nothing is initialised here.
    let request = Request::of(volume, &places.raw, Purpose::Write, holder());
    let open = lease(&request, row).await?;
    row.update(|state| state.marker = open.marker_report());
    open.warnings.iter().for_each(|word| row.warn(word));
    // A lost volume ends the whole Job: another one does the work.
    let guard = Guard::new(&open.lease, Arc::clone(cancelled));
    let swept = sweep_open(&open, volume, root_key, row, cancelled).await;
    match guard.end() {
        Some(lost) => Err(JobError::Volume(lost)),
        None => swept.and_then(|()| finish(open, row)),
    }
}

async fn sweep_open(
    open: &Volume,
    volume: &VolumeConfig,
    root_key: Arc<RootKey>,
    row: &Row,
    cancelled: &Arc<AtomicBool>,
) -> Result<(), JobError> {
    let target = current_version(&root_key, row, cancelled).await?;
    row.set_phase(VolumePhase::Sweeping, "Sweeping", format!("rewrapping to version {target}"));
    let pace = Pace::new(volume.sweep_files_per_second, Box::new(|| false));
    let mut sweep = Sweep::alone(open, root_key, Handle::current(), &target, pace, row.sweep.clone())
        .map_err(JobError::Sweep)?;
    sweep.storage_entries.clone_from(&volume.storage_entries);
    sweep.cancelled = Arc::clone(cancelled);
    let swept = tokio::task::spawn_blocking(move || sweep.run()).await;
    swept.unwrap_or(Err(SweepError::Cancelled)).map_err(JobError::Sweep)
}

fn finish(mut open: Volume, row: &Row) -> Result<(), JobError> {
    open.region = marker::read(open.dir()).map_err(JobError::Volume)?;
    let report = open.marker_report();
    row.update(|state| {
        state.marker = report;
        state.phase = VolumePhase::Swept;
        state.reason = "Swept".into();
        state.message = "the sweep is complete".into();
    });
    open.lease.release();
    Ok(())
}

/// Takes the lease, or gives way to whoever has it.
async fn lease(request: &Request, row: &Row) -> Result<Volume, JobError> {
    let start = Instant::now();
    loop {
        match volume::open_without_key(request).await {
            Ok(volume) => return Ok(volume),
            Err(error @ VolumeError::InUse { .. }) if start.elapsed() < LEASE_PATIENCE => {
                row.set_phase(VolumePhase::Waiting, reasons::VOLUME_IN_USE, error.explain());
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(JobError::Volume(error)),
        }
    }
}

/// The current version; waits while the KMS gives no answer.
async fn current_version(root_key: &RootKey, row: &Row, cancelled: &AtomicBool) -> Result<String, JobError> {
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(JobError::Sweep(SweepError::Cancelled));
        }
        let described = root_key.describe(&CallCtx::new()).await;
        let error = match described {
            Ok(info) => {
                let version = info.current.map(|version| version.0);
                let state = info.state.as_str().to_owned();
                row.update(|row| row.key = Some(KeyReport { state, current_version: version.clone() }));
                // Where the KMS tells no version, everything is rewrapped once.
                return Ok(version.unwrap_or_else(|| "current".into()));
            }
            Err(error) => KeyError::from(error),
        };
        if !error.is_outage() {
            return Err(JobError::Kms(error));
        }
        let text = format!("the Job waits for the KMS: {}", crate::serve::explain(&error));
        row.set_phase(VolumePhase::Waiting, error.reason(), text);
        tokio::time::sleep(PAUSE).await;
    }
}

fn report_failure(row: &Row, error: &JobError) {
    let text = crate::serve::explain(error);
    match error {
        JobError::Volume(volume) if volume.is_waiting() => {
            row.set_phase(VolumePhase::Waiting, volume.reason(), text);
        }
        JobError::Volume(volume) => row.set_phase(VolumePhase::Failed, volume.reason(), text),
        JobError::Kms(key) | JobError::Sweep(SweepError::Refused(key)) => {
            row.set_phase(VolumePhase::Suspended, key.reason(), text);
        }
        _ => row.set_phase(VolumePhase::Failed, "SweepFailed", text),
    }
}

/// Tells the operator how it ended; whether it was told.
async fn last_report(mut client: CheckInClient, board: &Board) -> bool {
    let report = board.check_in(Role::Job);
    let start = Instant::now();
    loop {
        let Err(error) = client.send(&report).await else { return true };
        tracing::warn!(error = &error as &dyn std::error::Error, "the operator does not take the report");
        if start.elapsed() > REPORT_PATIENCE {
            return false;
        }
        tokio::time::sleep(error.come_again().unwrap_or(PAUSE)).await;
    }
}

#[cfg(test)]
mod tests;
