//! Watching the connections: who waits, and what to do about it.
//!
//! Invariant: what is found here is a fact about now; the decision is `decision::verdict`'s, and is carried out only if the
//! connection is still in the phase that it was made for.

use std::collections::HashMap;
use std::time::Instant;

use crate::decision::{Facts, Phase, PodState, Verdict, somebody_waits};
use crate::kernel::KernelError;
use crate::record::PodName;
use crate::target::Key;

use super::{Ended, PublishError, Session, Sessions};

/// A connection, as seen now.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which.
    pub key: Key,
    /// Whose.
    pub pod: PodName,
    /// What the table of decisions needs.
    pub facts: Facts,
}

impl Sessions {
    /// Looks at every connection that has not ended. `pod_state` answers from memory.
    pub fn survey(&self, now: Instant, pod_state: impl Fn(&PodName) -> PodState) -> Vec<Observation> {
        let mut table = self.table();
        let open = table.iter_mut().filter(|(_, session)| session.phase != Phase::Ended);
        open.map(|(key, session)| self.observe(key, session, now, pod_state(&session.pod))).collect()
    }

    fn observe(&self, key: &Key, session: &mut Session, now: Instant, pod: PodState) -> Observation {
        // A connection whose number may mean another one by now counts as one on which nobody waits.
        let stands = self.stands(key, session).unwrap_or(false);
        let waiting = if stands { self.kernel.waiting(session.plain.connection) } else { None };
        let stuck = waiting.is_some_and(|waiting| somebody_waits(session.phase, waiting));
        session.stuck_since = stuck.then(|| session.stuck_since.unwrap_or(now));
        let over = matches!(pod, PodState::Ending | PodState::Gone);
        session.over_since = over.then(|| session.over_since.unwrap_or(now));
        let since = |start: Option<Instant>| start.map(|start| now.duration_since(start));
        let facts = Facts {
            phase: session.phase,
            leased: session.lease.is_some(),
            stuck: since(session.stuck_since),
            over: since(session.over_since),
            pod,
        };
        Observation { key: key.clone(), pod: session.pod.clone(), facts }
    }

    /// Carries out what was decided on an observation.
    pub fn carry_out(&self, seen: &Observation, verdict: Verdict) -> Result<Option<Ended>, PublishError> {
        let mut table = self.table();
        let Some(session) = table.get_mut(&seen.key) else { return Ok(None) };
        if session.phase != seen.facts.phase || session.lease.is_some() != seen.facts.leased {
            return Ok(None);
        }
        let result = match verdict {
            Verdict::Keep => Ok(None),
            Verdict::Renew => self.renew(&seen.key, session).map(|()| None),
            Verdict::Abort(cause) => self.end(&seen.key, session, cause).map(Some).map_err(from_kernel),
        };
        self.count(&table);
        result
    }

    /// Sets the gauges.
    pub(super) fn count(&self, table: &HashMap<Key, Session>) {
        self.metrics.connections(table.values().map(|session| session.phase));
    }
}

fn from_kernel(error: KernelError) -> PublishError {
    error.into()
}
