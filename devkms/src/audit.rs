//! The audit trail: one event for each call, as an activity tracker would show it. Invariant: no plaintext, ciphertext, key or token is in it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::clock::{Seconds, rfc3339};
use crate::ops::Note;

/// More events than this are forgotten, oldest first.
const CAPACITY: usize = 100_000;

/// One call and its outcome.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Counts from 1; gaps only where events were cleared.
    pub sequence: u64,
    pub time: String,
    /// Such as `kms.secrets.wrap`.
    pub action: &'static str,
    /// The operation's short name, as faults and counters have it.
    pub operation: &'static str,
    /// HTTP status; none where the connection was cut before an answer.
    pub status: Option<u16>,
    /// The code word of a refusal.
    pub reason: Option<&'static str>,
    /// Name of the identity in the seed.
    pub initiator: Option<String>,
    pub initiator_id: Option<String>,
    pub instance: Option<String>,
    pub correlation_id: String,
    pub key: Option<String>,
    pub key_ring: Option<String>,
    pub key_state: Option<u8>,
    pub key_version_id: Option<String>,
    pub rewrapped_key_version_id: Option<String>,
    /// Kind of the fault that this call met.
    pub fault: Option<&'static str>,
}

impl Event {
    /// An event of `operation` whose outcome is not known yet.
    pub fn new(action: &'static str, operation: &'static str, now: Seconds, correlation_id: String) -> Self {
        Self {
            sequence: 0,
            time: rfc3339(now),
            action,
            operation,
            status: None,
            reason: None,
            initiator: None,
            initiator_id: None,
            instance: None,
            correlation_id,
            key: None,
            key_ring: None,
            key_state: None,
            key_version_id: None,
            rewrapped_key_version_id: None,
            fault: None,
        }
    }

    /// Takes over what an operation noted.
    pub fn note(&mut self, note: Note) {
        self.key = note.key;
        self.key_ring = note.key_ring;
        self.key_state = note.key_state.map(|s| s as u8);
        self.key_version_id = note.key_version;
        self.rewrapped_key_version_id = note.rewrapped_version;
    }
}

/// The trail, in memory and in the log.
#[derive(Debug, Default)]
pub struct Audit {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    events: VecDeque<Event>,
}

impl Audit {
    /// Adds an event.
    pub fn record(&self, mut event: Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        event.sequence = inner.last;
        tracing::info!(
            target: "audit",
            action = event.action,
            status = event.status,
            reason = event.reason,
            initiator = event.initiator,
            correlation_id = event.correlation_id,
            key = event.key,
            key_version_id = event.key_version_id,
            rewrapped_key_version_id = event.rewrapped_key_version_id,
            "call"
        );
        if inner.events.len() == CAPACITY {
            inner.events.pop_front();
        }
        inner.events.push_back(event);
    }

    /// Events that `keep` wants, oldest first.
    pub fn events(&self, keep: impl Fn(&Event) -> bool) -> Vec<Event> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.events.iter().filter(|e| keep(e)).cloned().collect()
    }

    /// Forgets every event; numbers go on.
    pub fn clear(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).events.clear();
    }
}
