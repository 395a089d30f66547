//! Watching the connections: who waits, and what to do about it.
//!
//! Invariant: what is found here is a fact about now; the decision is `decision::verdict`'s, and is carried out only if the
//! connection is still in the phase that it was made for.

use std::collections::HashMap;
use std::time::Instant;

use crate::decision::{Cause, Facts, Phase, PodState, Verdict, somebody_waits};
use crate::kernel::KernelError;
use crate::record::PodName;
use crate::silence::{Change, WORTH_TELLING};
use crate::target::Key;

use super::{Ended, LeaseId, PublishError, Session, Sessions};

/// A connection, as seen now.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which.
    pub key: Key,
    /// Whose.
    pub pod: PodName,
    /// What the table of decisions needs.
    pub facts: Facts,
    /// Beats until then.
    pub beats: u64,
}

impl Sessions {
    /// Looks at every connection that has not ended. `pod_state` answers from memory.
    pub fn survey(&self, now: Instant, pod_state: impl Fn(&PodName) -> PodState) -> Vec<Observation> {
        let mut table = self.table();
        let open = table.iter_mut().filter(|(_, session)| session.phase != Phase::Ended);
        let seen: Vec<_> =
            open.map(|(key, session)| self.observe(key, session, now, pod_state(&session.pod))).collect();
        let silent =
            seen.iter().filter(|seen| seen.facts.silent.is_some_and(|silent| silent >= WORTH_TELLING));
        self.metrics.silent(silent.count());
        seen
    }

    fn observe(&self, key: &Key, session: &mut Session, now: Instant, pod: PodState) -> Observation {
        // A connection whose number may mean another one by now counts as one on which nobody waits.
        let stands = self.stands(key, session).unwrap_or(false);
        let waiting = if stands { self.kernel.waiting(session.plain.connection) } else { None };
        let stuck = waiting.is_some_and(|waiting| somebody_waits(session.phase, waiting));
        session.stuck_since = stuck.then(|| session.stuck_since.unwrap_or(now));
        let over = matches!(pod, PodState::Ending | PodState::Gone);
        session.over_since = over.then(|| session.over_since.unwrap_or(now));
        if let Some(change) = session.silence.as_mut().and_then(|silence| silence.look(now)) {
            tell(session, change);
        }
        let since = |start: Option<Instant>| start.map(|start| now.duration_since(start));
        let facts = Facts {
            phase: session.phase,
            leased: session.lease.is_some(),
            silent: session.silence.map(|silence| silence.lasted()),
            stuck: since(session.stuck_since),
            over: since(session.over_since),
            pod,
        };
        Observation { key: key.clone(), pod: session.pod.clone(), facts, beats: beats(session) }
    }

    /// Carries out what was decided on an observation.
    pub fn carry_out(&self, seen: &Observation, verdict: Verdict) -> Result<Option<Ended>, PublishError> {
        let mut table = self.table();
        let Some(session) = table.get_mut(&seen.key) else { return Ok(None) };
        if session.phase != seen.facts.phase || session.lease.is_some() != seen.facts.leased {
            return Ok(None);
        }
        // It beat while the decision was on its way.
        if rests_on_silence(&seen.facts, verdict) && beats(session) != seen.beats {
            return Ok(None);
        }
        let holder = session.lease;
        let result = match verdict {
            Verdict::Keep => Ok(None),
            Verdict::Renew => self.renew(&seen.key, session).map(|()| None),
            Verdict::Abort(cause) => self.end(&seen.key, session, cause).map(Some).map_err(from_kernel),
        };
        self.count(&table);
        if let (Ok(Some(ended)), Some(holder)) = (&result, holder)
            && ended.cause == Cause::ServerHung
        {
            self.end_holder(ended, holder);
        }
        result
    }

    /// A sidecar that hangs cannot say that its session is lost; the one that kubelet starts in its place can.
    fn end_holder(&self, ended: &Ended, holder: LeaseId) {
        let (pod, namespace) = (&ended.pod.name, &ended.pod.namespace);
        match self.holders.end(holder) {
            Ok(()) => tracing::warn!(pod, namespace, "the sidecar that hung was killed"),
            Err(error) => {
                tracing::error!(%error, pod, namespace, "a sidecar that hangs could not be killed; delete its pod");
            }
        }
    }

    /// Sets the gauges.
    pub(super) fn count(&self, table: &HashMap<Key, Session>) {
        self.metrics.connections(table.values().map(|session| session.phase));
    }
}

fn beats(session: &Session) -> u64 {
    session.silence.map_or(0, |silence| silence.beats())
}

/// Whether a verdict would not have been given without the silence.
fn rests_on_silence(facts: &Facts, verdict: Verdict) -> bool {
    facts.leased
        && match verdict {
            Verdict::Abort(Cause::ServerHung) => true,
            Verdict::Abort(Cause::PodOver) => facts.pod != PodState::Gone,
            _ => false,
        }
}

fn tell(session: &Session, change: Change) {
    let (pod, namespace, volume) = (&session.pod.name, &session.pod.namespace, &session.plain.volume);
    match change {
        Change::Began => tracing::warn!(
            pod,
            namespace,
            volume,
            "the sidecar no longer shows that it serves; unless it does again, the volume's connection is aborted after the deadline"
        ),
        Change::Ended => tracing::info!(pod, namespace, volume, "the sidecar shows again that it serves"),
    }
}

fn from_kernel(error: KernelError) -> PublishError {
    error.into()
}
