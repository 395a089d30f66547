//! The sweep of a served volume: begun by the operator's order, or by what the sidecar itself sees where no operator is.
//!
//! Invariant: a sweep begins only once no new file can be wrapped by an older version; one sweep at a time, and none on a
//! volume that another one has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use contract::check_in::{MarkerReport, VolumeOrder};
use contract::config::Volume as VolumeConfig;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::board::Row;
use super::volume_task::Served;
use crate::sweep::{Pace, Sweep, SweepError};
use crate::volume::marker;

/// Between two tries.
const RETRY: Duration = Duration::from_secs(10);
/// With an operator: how long a new version is known before the sweep begins without an order.
const PATIENCE: Duration = Duration::from_mins(10);

/// What the operator wants of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The version to reach.
    pub target: Option<String>,
    /// Counts orders to sweep although it was done.
    pub again: u64,
}

/// Where orders come from.
pub type Orders = watch::Receiver<Order>;

/// Takes an order from a check-in's reply. The operator asks for another sweep with every reply until it has seen one, so
/// that it says nothing new while one is `running`.
pub fn take(orders: &watch::Sender<Order>, order: &VolumeOrder, running: bool) {
    orders.send_if_modified(|current| {
        let before = current.clone();
        if order.target_version.is_some() {
            current.target.clone_from(&order.target_version);
        }
        current.again += u64::from(order.sweep_again && !running);
        *current != before
    });
}

/// Sweeps whenever there is a reason to, for ever.
pub async fn run(served: Arc<Served>, config: VolumeConfig, row: Arc<Row>, mut orders: Orders, alone: bool) {
    let mut done = (None, 0);
    let mut seen = served.watch.subscribe();
    let mut known_since: Option<(String, Instant)> = None;
    let mut met = None;
    while !served.fenced.load(Ordering::SeqCst) {
        let order = orders.borrow_and_update().clone();
        let (serves, current) = {
            let seen = seen.borrow_and_update();
            (seen.access.serves(), seen.current.clone())
        };
        if current.is_some() && known_since.as_ref().map(|(version, _)| version) != current.as_ref() {
            known_since = current.clone().map(|version| (version, Instant::now()));
        }
        let overdue = known_since.as_ref().is_some_and(|(_, since)| since.elapsed() >= PATIENCE);
        if current.is_some() && current == order.target {
            met.clone_from(&current);
        }
        let ordered = order.target.filter(|target| !is_outdated(target, met.as_deref(), current.as_deref()));
        let own = current.filter(|_| alone || overdue);
        let wanted = ordered.or(own);
        let mut failed = false;
        if let Some(target) = wanted
            && serves
            && (done.0.as_ref() != Some(&target) || done.1 != order.again)
        {
            match sweep(&served, &config, &row, &target).await {
                Ok(true) => done = (Some(target), order.again),
                Ok(false) => failed = true,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the sweep did not reach its end"
                    );
                    failed = true;
                }
            }
            row.sweep.ended();
        }
        let pause = if failed { RETRY } else { Duration::from_mins(1) };
        tokio::select! {
            changed = orders.changed(), if !failed => if changed.is_err() { return },
            changed = seen.changed(), if !failed => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether an order is of a version that was current here, and is no longer: the operator is behind.
fn is_outdated(target: &str, met: Option<&str>, current: Option<&str>) -> bool {
    met == Some(target) && current.is_some_and(|current| current != target)
}

/// One sweep; whether it is complete.
async fn sweep(
    served: &Arc<Served>,
    config: &VolumeConfig,
    row: &Row,
    target: &str,
) -> Result<bool, SweepError> {
    // The watch may not have seen the version that the operator has.
    if served.watch.current().as_deref() != Some(target) {
        served.watch.look_once().await;
    }
    // Whichever of the two is behind: new files would go on under a version that the sweep is to leave.
    if let Some(current) = served.watch.current().filter(|current| current != target) {
        tracing::info!(
            target,
            current,
            "the sweep waits until the KMS names its target as the current version"
        );
        return Ok(false);
    }
    served.keys.close_others(target).await.map_err(SweepError::Refused)?;
    let fs = Arc::clone(&served.fs);
    let busy = Arc::clone(&served.fs);
    let reads = std::sync::atomic::AtomicU64::new(0);
    let load = move || {
        let counters = busy.counters();
        let total =
            counters.read_bytes.load(Ordering::Relaxed) + counters.written_bytes.load(Ordering::Relaxed);
        reads.swap(total, Ordering::Relaxed) != total
    };
    let pace = Pace::new(config.sweep_files_per_second, Box::new(load));
    let volume = served.volume.lock().await;
    if served.fenced.load(Ordering::SeqCst) {
        return Err(SweepError::Cancelled);
    }
    let Some(open) = volume.as_ref() else { return Err(SweepError::Cancelled) };
    let mut sweep =
        Sweep::alone(open, Arc::clone(&served.root_key), Handle::current(), target, pace, row.sweep.clone())?;
    drop(volume);
    sweep.storage_entries.clone_from(&config.storage_entries);
    sweep.cancelled = Arc::clone(&served.fenced);
    let written = Arc::clone(&served.fs);
    sweep.undisturbed = Some(Box::new(move |file, work| written.undisturbed(file, work)));
    sweep.renames = Some(Box::new(move || fs.moves()));
    let result = tokio::task::spawn_blocking(move || sweep.run()).await;
    result.unwrap_or(Err(SweepError::Cancelled))?;
    let behind = Arc::clone(served);
    let report = tokio::task::spawn_blocking(move || read_marker_again(&behind)).await;
    if let Some(report) = report.unwrap_or(Ok(None))? {
        row.update(|state| state.marker = Some(report));
    }
    Ok(row.sweep.report().is_some_and(|report| report.complete))
}

/// Takes over the marker as the sweep left it. Blocks.
fn read_marker_again(served: &Served) -> Result<Option<MarkerReport>, SweepError> {
    let mut volume = served.volume.blocking_lock();
    let Some(open) = volume.as_mut() else { return Ok(None) };
    open.region = marker::read(open.dir())?;
    served.watch.set_marker(open.region.clone());
    Ok(open.marker_report())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::serve::board::Board;
    use crate::serve::volume_task::serve;
    use crate::testing::{TestKms, open, volume_config};
    use devkms::{Fault, FaultKind};

    #[tokio::test(flavor = "multi_thread")]
    async fn while_the_target_is_not_known_to_be_current_nothing_is_swept_and_no_old_group_kept() {
        let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
        let opened = open(&kms, dir.path(), contract::config::Wrapping::Grouped).await;
        opened.write("old", b"1").await;
        let (before, config) = (opened.version("old"), volume_config());
        let board = Board::new([("data".to_owned(), "data-0".to_owned())]);
        let row = &board.rows()[0];
        let path = opened.path.clone();
        let served = serve(opened.volume, &config, &opened.root, &opened.watch, row).unwrap();
        let served = Arc::new(served);
        let target = kms.rotate().await;
        let kind = FaultKind::Status { status: 503, code: None, retry_after: None };
        kms.server.add_fault(Fault::new(&["metadata"], kind));
        assert!(!sweep(&served, &config, row, &target).await.unwrap());
        assert_eq!(crate::testing::version(&path.join("old")), before);
        assert!(row.sweep.report().is_none());
        kms.recover();
        assert!(sweep(&served, &config, row, &target).await.unwrap());
        assert_eq!(served.keys.create().await.unwrap().wrapped.version, target);
        // From now on an order for the older version is the operator's that is behind.
        assert!(is_outdated("v1", Some("v1"), Some("v2")) && !is_outdated("v2", Some("v1"), Some("v1")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fenced_volume_is_not_resumed_or_swept_and_takes_no_write() {
        let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
        let opened = open(&kms, dir.path(), contract::config::Wrapping::Grouped).await;
        opened.write("old", b"1").await;
        let (board, config) = (Board::new([("data".to_owned(), "data-0".to_owned())]), volume_config());
        let row = &board.rows()[0];
        let served = Arc::new(serve(opened.volume, &config, &opened.root, &opened.watch, row).unwrap());
        let target = kms.rotate().await;
        opened.watch.look_once().await;
        served.fence().await;
        // As the watch's next change would.
        served.fs.resume();
        assert!(served.fs.is_suspended());
        let made = served.fs.mkdir(crate::fs::ROOT, c"new", mode(), caller());
        assert_eq!(made.unwrap_err().errno(), libc::EROFS);
        let swept = sweep(&served, &config, row, &target).await;
        assert!(swept.is_err(), "{swept:?}");
        assert!(matches!(served.keys.create().await, Err(crate::keys::KeyError::Ended)));
    }

    fn mode() -> crate::fs::NewMode {
        crate::fs::NewMode { mode: 0o755, umask: 0 }
    }

    fn caller() -> crate::fs::Caller {
        crate::fs::Caller { uid: 0, gid: 0 }
    }

    fn order(target: Option<&str>, sweep_again: bool) -> VolumeOrder {
        VolumeOrder { name: "data".into(), target_version: target.map(str::to_owned), sweep_again }
    }

    #[test]
    fn an_order_stands_until_another_one_and_asking_again_counts_unless_a_sweep_runs() {
        let (sender, receiver) = watch::channel(Order::default());
        take(&sender, &order(Some("v2"), false), false);
        take(&sender, &order(None, true), false);
        take(&sender, &order(None, true), true);
        assert_eq!(*receiver.borrow(), Order { target: Some("v2".into()), again: 1 });
    }
}
