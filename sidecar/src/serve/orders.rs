//! The sweep of a served volume: begun by the operator's order, or by what the sidecar itself sees where no operator is.
//!
//! Invariant: a sweep begins only once no new file can be wrapped by an older version; one sweep at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use contract::check_in::VolumeOrder;
use contract::config::Volume as VolumeConfig;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::board::Row;
use super::volume_task::{Served, marker_report};
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
    loop {
        let order = orders.borrow_and_update().clone();
        let (serves, current) = {
            let seen = seen.borrow_and_update();
            (seen.access.serves(), seen.current.clone())
        };
        if current.is_some() && known_since.as_ref().map(|(version, _)| version) != current.as_ref() {
            known_since = current.clone().map(|version| (version, Instant::now()));
        }
        let overdue = known_since.as_ref().is_some_and(|(_, since)| since.elapsed() >= PATIENCE);
        let own = current.filter(|_| alone || overdue);
        let wanted = order.target.or(own);
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
    let reached = served.watch.current().unwrap_or_else(|| target.to_owned());
    served.keys.close_others(&reached).await.map_err(SweepError::Refused)?;
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
    let Some(open) = volume.as_ref() else { return Err(SweepError::Cancelled) };
    let mut sweep =
        Sweep::alone(open, Arc::clone(&served.root_key), Handle::current(), target, pace, row.sweep.clone())?;
    drop(volume);
    sweep.storage_entries.clone_from(&config.storage_entries);
    let written = Arc::clone(&served.fs);
    sweep.undisturbed = Some(Box::new(move |file, work| written.undisturbed(file, work)));
    sweep.renames = Some(Box::new(move || fs.moves()));
    let result = tokio::task::spawn_blocking(move || sweep.run()).await;
    result.unwrap_or(Err(SweepError::Cancelled))?;
    let mut volume = served.volume.lock().await;
    if let Some(open) = volume.as_mut() {
        open.region = marker::read(open.dir())?;
        served.watch.set_marker(open.region.clone());
        let report = marker_report(open);
        row.update(|state| state.marker = report);
    }
    Ok(row.sweep.report().is_some_and(|report| report.complete))
}

#[cfg(test)]
mod tests {
    use super::*;

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
