//! The loop that applies the deadlines.
//!
//! Invariant: nothing is ended because of a pod's state that the API server itself did not confirm just then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::announce::{Announce, tell_ended};
use crate::decision::{Cause, Deadlines, Facts, Verdict, verdict};
use crate::pods::{PodLookup, confirm, state};
use crate::session::{Observation, Sessions};

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(500);

/// Watches all connections.
pub struct Watchdog {
    /// What is watched.
    pub sessions: Arc<Sessions>,
    /// Where pods are looked up.
    pub pods: Arc<dyn PodLookup>,
    /// Where news go.
    pub announce: Arc<dyn Announce>,
    /// How long to wait.
    pub deadlines: Deadlines,
    /// Counts rounds, for the health check.
    pub rounds: Arc<AtomicU64>,
}

impl Watchdog {
    /// Looks until the process ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.round().await;
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks once.
    pub async fn round(&self) {
        let (sessions, pods) = (self.sessions.clone(), self.pods.clone());
        let look = move || sessions.survey(Instant::now(), |pod| state(&pods.seen(&pod.uid)));
        let Ok(observations) = tokio::task::spawn_blocking(look).await else { return };
        // The API may be slow for one pod: the others' deadlines run all the same.
        let verdicts = join_all(observations.iter().map(|seen| self.decide(seen))).await;
        for (seen, verdict) in observations.into_iter().zip(verdicts) {
            if verdict != Verdict::Keep {
                self.carry_out(seen, verdict).await;
            }
        }
    }

    async fn decide(&self, seen: &Observation) -> Verdict {
        let first = verdict(&seen.facts, &self.deadlines);
        if first != Verdict::Abort(Cause::PodOver) {
            return first;
        }
        let pod = confirm(&*self.pods, &seen.pod).await;
        verdict(&Facts { pod, ..seen.facts }, &self.deadlines)
    }

    async fn carry_out(&self, seen: Observation, verdict: Verdict) {
        let (sessions, pod) = (self.sessions.clone(), seen.pod.name.clone());
        match tokio::task::spawn_blocking(move || sessions.carry_out(&seen, verdict)).await {
            Ok(Ok(ended)) => tell_ended(&*self.announce, ended),
            Ok(Err(error)) => {
                tracing::error!(%error, pod, ?verdict, "a connection could not be ended; trying again");
            }
            Err(error) => tracing::error!(%error, pod, "a deadline was not applied"),
        }
    }
}
