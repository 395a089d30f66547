//! What each volume is doing, for everybody who asks: probes, the gate, check-ins, metrics.
//!
//! Invariant: a volume is reported as serving only between the moment its data is served and the moment it is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use contract::check_in::{
    CheckIn, KeyReport, LookReport, MarkerReport, Role, VolumePhase, VolumeReport, reasons,
};
use contract::config::Status;
use tokio::sync::watch;

use crate::fs::{Counters, EncryptedFs};
use crate::sweep::Progress;

/// One volume's row.
pub struct Row {
    /// The pod volume's name.
    pub name: String,
    /// The claim's name.
    pub claim: String,
    /// The sweep of this volume.
    pub sweep: Progress,
    /// The volume's filesystem, once it is open.
    pub fs: OnceLock<Arc<EncryptedFs>>,
    state: Mutex<State>,
    change: Arc<watch::Sender<u64>>,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the volume is doing.
    pub phase: VolumePhase,
    /// Why.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
    /// It will not be served again by this process.
    pub given_up: bool,
    /// From the marker.
    pub marker: Option<MarkerReport>,
    /// What a Job that only looks has found.
    pub look: Option<LookReport>,
    /// The root key.
    pub key: Option<KeyReport>,
    /// Facts that do not stop the service.
    pub warnings: Vec<String>,
}

impl Row {
    /// A fact that does not stop the service.
    pub fn warn(&self, word: &str) {
        self.update(|state| {
            if !state.warnings.iter().any(|known| known == word) {
                state.warnings.push(word.to_owned());
            }
        });
    }

    /// What holds now.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes the state; those who wait are told if anything is different.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let before = state.clone();
        change(&mut state);
        // This is the end, whatever the volume behind it is doing: only another pod can serve it again.
        if before.given_up {
            state.phase = before.phase;
            state.reason.clone_from(&before.reason);
            state.message.clone_from(&before.message);
        }
        let (shown, changed) = (shown(&before) != shown(&state), *state != before);
        if shown {
            let State { phase, reason, message, .. } = &*state;
            tracing::info!(volume = %self.name, ?phase, reason, message, "volume changed");
        }
        drop(state);
        if changed {
            self.change.send_modify(|count| *count += 1);
        }
    }

    /// The volume will not be served again by this process, whatever else happens.
    pub fn give_up(&self, reason: &str, message: impl Into<String>) {
        self.set_phase(VolumePhase::Failed, reason, message);
        self.update(|state| state.given_up = true);
    }

    /// Sets what the volume is doing and why.
    pub fn set_phase(&self, phase: VolumePhase, reason: &str, message: impl Into<String>) {
        let message = message.into();
        self.update(|state| {
            state.phase = phase;
            reason.clone_into(&mut state.reason);
            state.message = message;
        });
    }

    /// The row for a check-in.
    pub fn report(&self) -> VolumeReport {
        let state = self.state();
        let count = |of: fn(&Counters) -> &AtomicU64| {
            self.fs.get().map_or(0, |fs| of(fs.counters()).load(Ordering::Relaxed))
        };
        VolumeReport {
            name: self.name.clone(),
            claim: self.claim.clone(),
            phase: state.phase,
            reason: state.reason,
            message: state.message,
            marker: state.marker,
            key: state.key,
            sweep: self.sweep.report(),
            look: state.look,
            lazy_rewraps: count(|counters| &counters.upgraded),
            integrity_errors: count(|counters| &counters.damaged),
            warnings: state.warnings,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn shown(state: &State) -> (VolumePhase, &str, &str) {
    (state.phase, &state.reason, &state.message)
}

/// All volumes of the process.
#[derive(Clone)]
pub struct Board {
    rows: Arc<Vec<Arc<Row>>>,
    change: Arc<watch::Sender<u64>>,
}

impl Board {
    /// Rows for volumes of these names and claims, all of them starting.
    pub fn new(volumes: impl IntoIterator<Item = (String, String)>) -> Self {
        let change = Arc::new(watch::Sender::new(0));
        let row = |(name, claim)| {
            let state = Mutex::new(State {
                phase: VolumePhase::Waiting,
                reason: reasons::STARTING.into(),
                message: "the sidecar has just begun".into(),
                given_up: false,
                marker: None,
                look: None,
                key: None,
                warnings: vec![],
            });
            let (sweep, fs) = (Progress::default(), OnceLock::new());
            Arc::new(Row { name, claim, sweep, fs, state, change: Arc::clone(&change) })
        };
        Self { rows: Arc::new(volumes.into_iter().map(row).collect()), change }
    }

    /// All rows.
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.rows
    }

    /// The row of a volume.
    pub fn row(&self, name: &str) -> Option<&Arc<Row>> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// A report on all of them.
    pub fn check_in(&self, role: Role) -> CheckIn {
        CheckIn { role, volumes: self.rows.iter().map(|row| row.report()).collect() }
    }

    /// Wakes whenever a row changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.change.subscribe()
    }

    /// What the probes read.
    pub fn status(&self) -> Status {
        let states: Vec<_> = self.rows.iter().map(|row| (row.name.as_str(), row.state())).collect();
        let troubles = states.iter().filter(|(_, state)| state.phase != VolumePhase::Serving);
        let text: Vec<_> = troubles
            .map(|(name, state)| format!("volume {name}: {}: {}", state.reason, state.message))
            .collect();
        Status { ready: text.is_empty(), message: text.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new([("data".to_owned(), "data-0".to_owned()), ("logs".to_owned(), "logs-0".to_owned())])
    }

    #[test]
    fn a_pod_is_ready_when_every_volume_serves() {
        let board = board();
        assert!(!board.status().ready);
        board.rows()[0].set_phase(VolumePhase::Serving, reasons::SERVING, "");
        board.rows()[1].set_phase(VolumePhase::Suspended, "KeyDisabled", "the root key is disabled");
        let status = board.status();
        assert!(!status.ready);
        assert_eq!(status.message, "volume logs: KeyDisabled: the root key is disabled");
        board.rows()[1].set_phase(VolumePhase::Serving, reasons::SERVING, "");
        assert!(board.status().ready);
    }

    #[test]
    fn a_lost_session_stays_lost_although_the_volume_behind_it_opens() {
        let board = board();
        let row = &board.rows()[0];
        row.give_up(reasons::SESSION_LOST, "the pod must be replaced");
        row.set_phase(VolumePhase::Serving, reasons::SERVING, "");
        let state = row.state();
        assert_eq!((state.phase, state.reason.as_str()), (VolumePhase::Failed, reasons::SESSION_LOST));
        assert_eq!(state.message, "the pod must be replaced");
    }

    #[test]
    fn a_change_wakes_and_the_same_again_does_not() {
        let board = board();
        let changes = board.changes();
        board.rows()[0].set_phase(VolumePhase::Waiting, "KmsTimeout", "no answer");
        assert!(changes.has_changed().expect("the board lives"));
        let changes = board.changes();
        board.rows()[0].set_phase(VolumePhase::Waiting, "KmsTimeout", "no answer");
        assert!(!changes.has_changed().expect("the board lives"));
    }
}
