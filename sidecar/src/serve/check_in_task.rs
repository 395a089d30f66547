//! Reports to the operator, every 30 s ± 20 % and soon after each change; orders back to the volumes.
//!
//! Invariant: what the operator answers or does not answer changes nothing about the service itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::check_in::{CheckIn, Role};
use tokio::sync::watch;

use super::board::Board;
use super::metrics::Metrics;
use super::orders::{Order, take};
use crate::check_in::CheckInClient;

/// Between two reports, before jitter.
const PERIOD: Duration = Duration::from_secs(30);
/// After a change: long enough to take in what changes with it.
const SOON: Duration = Duration::from_millis(500);
/// Between two reports at least.
const GAP: Duration = Duration::from_secs(2);

/// Where the orders of each volume go, by the volume's name.
pub type OrderSenders = HashMap<String, watch::Sender<Order>>;

/// Reports for ever.
pub async fn run(
    mut client: CheckInClient,
    role: Role,
    board: Board,
    metrics: Arc<Metrics>,
    orders: OrderSenders,
) {
    let mut changes = board.changes();
    let mut failing = false;
    loop {
        changes.borrow_and_update();
        let report = CheckIn { role, volumes: board.rows().iter().map(|row| row.report()).collect() };
        match client.send(&report).await {
            Ok(reply) => {
                metrics.check_in(true);
                if failing {
                    tracing::info!("the operator accepts check-ins again");
                }
                failing = false;
                for (order, row) in
                    reply.volumes.iter().filter_map(|order| Some((order, board.row(&order.name)?)))
                {
                    if let Some(sender) = orders.get(&order.name) {
                        take(sender, order, row.sweep.is_running());
                    }
                }
            }
            Err(error) => {
                metrics.check_in(false);
                if !failing {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no check-in; everything goes on with what is known"
                    );
                }
                failing = true;
            }
        }
        tokio::time::sleep(GAP).await;
        let rest = jittered().saturating_sub(GAP);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(SOON).await;
            }
        }
    }
}

/// 30 s ± 20 %, so that a thousand sidecars do not come at once.
fn jittered() -> Duration {
    let mut byte = [128];
    // Without random numbers: the middle.
    let _ = getrandom::fill(&mut byte);
    PERIOD.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_every_24_to_36_seconds() {
        for _ in 0..100 {
            let pause = jittered();
            assert!((Duration::from_secs(24)..=Duration::from_secs(36)).contains(&pause), "{pause:?}");
        }
    }
}
