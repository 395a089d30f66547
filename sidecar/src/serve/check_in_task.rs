//! Reports to the operator, every 30 s ± 20 % and soon after each change; orders back to the volumes.
//!
//! Invariant: what the operator answers or does not answer changes nothing about the service itself. A busy operator is left
//! alone for as long as it asks for, whatever changes meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::check_in::{CheckInReply, Role};
use tokio::sync::watch;

use super::board::Board;
use super::metrics::Metrics;
use super::orders::{Order, take};
use crate::check_in::{CheckInClient, CheckInError};

/// Between two reports, before jitter.
const PERIOD: Duration = Duration::from_secs(30);
/// After a change: long enough to take in what changes with it.
const SOON: Duration = Duration::from_millis(500);
/// Between two reports at least.
const GAP: Duration = Duration::from_secs(2);

/// Where the orders of each volume go, by the volume's name.
pub type OrderSenders = HashMap<String, watch::Sender<Order>>;

/// What is made of answers.
struct Conversation {
    board: Board,
    metrics: Arc<Metrics>,
    orders: OrderSenders,
    /// The last answer was none, or no good one, and that has been logged.
    failing: bool,
}

/// Reports for ever.
pub async fn run(
    mut client: CheckInClient,
    role: Role,
    board: Board,
    metrics: Arc<Metrics>,
    orders: OrderSenders,
) {
    let mut changes = board.changes();
    let mut conversation = Conversation { board, metrics, orders, failing: false };
    loop {
        changes.borrow_and_update();
        let answer = client.send(&conversation.board.check_in(role)).await;
        let wish = conversation.take(answer);
        if let Some(after) = wish {
            tokio::time::sleep(scattered(after)).await;
            continue;
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

impl Conversation {
    /// Takes an answer in; a busy operator's wish when to come again.
    fn take(&mut self, answer: Result<CheckInReply, CheckInError>) -> Option<Duration> {
        self.metrics.check_in(answer.as_ref().err());
        match answer {
            Ok(reply) => {
                if self.failing {
                    tracing::info!("the operator accepts check-ins again");
                }
                self.failing = false;
                self.obey(&reply);
                None
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no check-in; everything goes on with what is known"
                    );
                }
                self.failing = true;
                error.come_again()
            }
        }
    }

    fn obey(&self, reply: &CheckInReply) {
        for order in &reply.volumes {
            if let (Some(row), Some(sender)) = (self.board.row(&order.name), self.orders.get(&order.name)) {
                take(sender, order, row.sweep.is_running());
            }
        }
    }
}

/// A pause and up to half of it more, so that those who were sent away together do not come again together.
fn scattered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + chance() / 2.0)
}

/// 30 s ± 20 %, so that a thousand sidecars do not come at once.
fn jittered() -> Duration {
    PERIOD.mul_f64(0.8 + 0.4 * chance())
}

/// Between 0 and 1; without random numbers the middle.
fn chance() -> f64 {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use contract::check_in::{VolumePhase, reasons};

    use super::*;
    use crate::testing::operator::{Authority, FakeOperator, files};

    #[test]
    fn reports_come_every_24_to_36_seconds() {
        for _ in 0..100 {
            let pause = jittered();
            assert!((Duration::from_secs(24)..=Duration::from_secs(36)).contains(&pause), "{pause:?}");
        }
    }

    #[test]
    fn those_who_were_sent_away_together_come_again_one_after_another() {
        let pauses: Vec<_> = (0..100).map(|_| scattered(Duration::from_secs(10))).collect();
        let allowed = Duration::from_secs(10)..=Duration::from_secs(15);
        assert!(pauses.iter().all(|pause| allowed.contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }

    async fn wait(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_busy_operator_is_left_alone_as_long_as_it_asks_for_and_no_longer() {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let operator = FakeOperator::start(&authority).await;
        files(dir.path(), &authority);
        let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
        let client = CheckInClient::with_files(&operator.url, &ca, &token).unwrap();
        let board = Board::new([("data".to_owned(), "data-0".to_owned())]);
        let metrics = Arc::new(Metrics::default());
        operator.busy(429, Some("4"));
        let begin = Instant::now();
        let (all, counts) = (board.clone(), Arc::clone(&metrics));
        tokio::spawn(run(client, Role::Sidecar, all, counts, HashMap::new()));
        wait(|| operator.was_busy()).await;
        // A change makes no hurry, and is what the next report says.
        board.rows()[0].set_phase(VolumePhase::Serving, reasons::SERVING, "");
        wait(|| !operator.reports().is_empty()).await;
        let waited = begin.elapsed();
        assert!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
        assert_eq!(operator.reports()[0].volumes[0].phase, VolumePhase::Serving);
        let text = metrics.text(&board).unwrap();
        assert!(text.contains(r#"check_ins_total{event="busy"} 1"#), "{text}");
    }
}
