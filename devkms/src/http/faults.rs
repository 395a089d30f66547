//! Faults that a test orders. Invariant: a fault meets only the operations that it names, and no more often than it says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::route::{Op, Target};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// An error answer in the API's form, without doing anything.
    #[serde(rename_all = "camelCase")]
    Status {
        status: u16,
        /// The code word of the one reason; none leaves `reasons` out.
        code: Option<String>,
        /// Seconds in a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// Any answer at all, without doing anything.
    Reply {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
    },
    /// The answer comes late.
    Delay { millis: u64 },
    /// No answer comes until the fault is removed; then the connection is reset.
    Hang,
    /// The connection is reset: before anything is done, or `after` it was done.
    Reset {
        #[serde(default)]
        after: bool,
    },
    /// The answer's header promises the whole body; the connection ends after `bytes` of it.
    Truncate { bytes: usize },
    /// The body comes byte by byte, with a pause of `millis` before each.
    Trickle { millis: u64 },
    /// The body is JSON that breaks off, under the answer's own status.
    BadJson,
    /// The body is followed by spaces up to `bytes` in all.
    Oversized { bytes: usize },
}

impl Kind {
    /// The name in counters and the audit trail.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Reply { .. } => "reply",
            Self::Delay { .. } => "delay",
            Self::Hang => "hang",
            Self::Reset { .. } => "reset",
            Self::Truncate { .. } => "truncate",
            Self::Trickle { .. } => "trickle",
            Self::BadJson => "bad-json",
            Self::Oversized { .. } => "oversized",
        }
    }
}

/// A fault and whom it meets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Operation names such as `unwrap`, `metadata`, `token`; every operation of the KMS and IAM where empty.
    #[serde(default)]
    pub operations: Vec<String>,
    /// Only calls on this key id or alias.
    #[serde(default)]
    pub key: Option<String>,
    /// Chance to strike, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// Strikes this often, then no more; without end where absent.
    #[serde(default)]
    pub count: Option<u64>,
    #[serde(flatten)]
    pub kind: Kind,
}

fn always() -> f64 {
    1.0
}

impl Fault {
    /// A fault that strikes always, for these operations.
    pub fn new(operations: &[&str], kind: Kind) -> Self {
        Self {
            operations: operations.iter().map(|o| (*o).to_owned()).collect(),
            key: None,
            probability: 1.0,
            count: None,
            kind,
        }
    }

    /// The same, but striking `count` times only.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// What is wrong with the order, if something is.
    pub fn problem(&self) -> Option<String> {
        let unknown = self.operations.iter().find(|o| Op::ALL.iter().all(|op| op.name() != *o));
        let status = match self.kind {
            Kind::Status { status, .. } | Kind::Reply { status, .. } => status,
            _ => 200,
        };
        if let Some(name) = unknown {
            return Some(format!("no operation is called '{name}'"));
        }
        if !(200..=599).contains(&status) {
            return Some(format!("{status} is no status of an answer"));
        }
        (!(0.0..=1.0).contains(&self.probability)).then(|| "probability lies between 0 and 1".to_owned())
    }

    fn names(&self, target: &Target) -> bool {
        let operation = self.operations.is_empty() || self.operations.iter().any(|o| o == target.op.name());
        operation && (self.key.is_none() || self.key == target.subject)
    }
}

/// Faults in force, each under a number.
#[derive(Debug)]
pub struct Faults {
    inner: Mutex<Inner>,
    /// Wakes hanging requests when faults are removed.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    faults: BTreeMap<u64, Fault>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Faults {
    fn locked<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a fault in force and returns its number.
    pub fn add(&self, fault: Fault) -> u64 {
        self.locked(|inner| {
            inner.last += 1;
            inner.faults.insert(inner.last, fault);
            inner.last
        })
    }

    /// Removes one fault; says whether it was there.
    pub fn remove(&self, id: u64) -> bool {
        let removed = self.locked(|inner| inner.faults.remove(&id).is_some());
        self.changed.send_replace(());
        removed
    }

    /// Removes every fault.
    pub fn clear(&self) {
        self.locked(|inner| inner.faults.clear());
        self.changed.send_replace(());
    }

    /// Faults by number; a used-up one has `count` 0.
    pub fn list(&self) -> BTreeMap<u64, Fault> {
        self.locked(|inner| inner.faults.clone())
    }

    /// The first fault that strikes this request, by number.
    pub fn strike(&self, target: &Target) -> Option<(u64, Kind)> {
        self.locked(|inner| {
            let (id, fault) = inner.faults.iter_mut().find(|(_, fault)| {
                fault.count != Some(0) && fault.names(target) && fault.probability > random()
            })?;
            if let Some(count) = &mut fault.count {
                *count -= 1;
            }
            Some((*id, fault.kind.clone()))
        })
    }

    /// Returns once fault `id` is no longer in force.
    pub async fn gone(&self, id: u64) {
        let mut changed = self.changed.subscribe();
        while self.locked(|inner| inner.faults.contains_key(&id)) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A number from 0 up to but without 1.
fn random() -> f64 {
    getrandom::u32().map_or(0.0, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Method;

    fn target(path: &str) -> Target {
        crate::route::classify(&Method::POST, path, None)
    }

    #[test]
    fn a_fault_strikes_the_operation_and_key_it_names_as_often_as_it_says() {
        let faults = Faults::default();
        let fault = Fault { key: Some("k1".into()), ..Fault::new(&["unwrap"], Kind::BadJson).times(2) };
        faults.add(fault);
        let unwrap = target("/api/v2/keys/k1/actions/unwrap");
        assert!(faults.strike(&target("/api/v2/keys/k1/actions/wrap")).is_none());
        assert!(faults.strike(&target("/api/v2/keys/k2/actions/unwrap")).is_none());
        assert!(faults.strike(&unwrap).is_some());
        assert!(faults.strike(&unwrap).is_some());
        assert!(faults.strike(&unwrap).is_none());
    }

    #[test]
    fn probability_decides_between_never_and_always() {
        let faults = Faults::default();
        faults.add(Fault { probability: 0.0, ..Fault::new(&[], Kind::Hang) });
        let wrap = target("/api/v2/keys/k/actions/wrap");
        assert!((0..200).all(|_| faults.strike(&wrap).is_none()));
        faults.clear();
        faults.add(Fault { probability: 0.5, ..Fault::new(&[], Kind::Hang) });
        let hits = (0..1000).filter(|_| faults.strike(&wrap).is_some()).count();
        assert!((350..650).contains(&hits), "{hits} of 1000");
    }

    #[test]
    fn an_order_that_could_never_strike_is_a_problem() {
        assert!(Fault::new(&["unwarp"], Kind::Hang).problem().is_some());
        assert!(Fault { probability: 2.0, ..Fault::new(&[], Kind::Hang) }.problem().is_some());
        assert!(
            Fault::new(&["token"], Kind::Status { status: 99, code: None, retry_after: None })
                .problem()
                .is_some()
        );
        assert!(Fault::new(&["token"], Kind::Hang).problem().is_none());
    }
}
