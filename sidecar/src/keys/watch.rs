//! Watches the root key: asks the KMS for its state and, within the TTL, for a real unwrap of the volume's marker.
//!
//! Invariant: everybody who uses keys asks [`KeyWatch::check`] first; what it says changes only here. When keys may live no
//! longer this is told at once, whatever a look that is under way still waits for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use envelope::{KmsContext, MarkerRegion, WrappedKey};
use kms::{CallCtx, KmsError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::access::{Access, Machine, Why};
use super::error::KeyError;
use super::root::RootKey;
use crate::profile::Lifetimes;
use crate::volume::marker;

/// The longest that one look may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks while keys may not be used.
const IMPATIENCE: Duration = Duration::from_secs(10);
/// After a denial: long enough for a second one to count as its confirmation.
const CONFIRMATION: Duration = Duration::from_secs(4);
/// The reason of a denial.
const DENIED: &str = "KeyAccessDenied";
/// Key versions for which one blob each is remembered.
const MOST_SAMPLES: usize = 16;

/// What is known of the root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the volume may do with keys.
    pub access: Access,
    /// The root key's state as the KMS last told it: a word of `kms::KeyState`.
    pub state: Option<&'static str>,
    /// The current version, where the KMS tells it.
    pub current: Option<String>,
    /// Why the last look brought no answer, although keys may still be used.
    pub trouble: Option<Why>,
}

/// The watch over one volume's root key.
pub struct KeyWatch {
    root: Arc<RootKey>,
    lifetimes: Lifetimes,
    machine: Mutex<Machine>,
    marker: Mutex<Option<MarkerRegion>>,
    /// One wrapped key for each version that is in use: its unwrap is what keeps keys of that version alive.
    samples: Mutex<HashMap<String, (WrappedKey, KmsContext)>>,
    /// There was no room for a version's sample, and that was said.
    crowded: AtomicBool,
    seen: watch::Sender<Seen>,
    /// When the current version was seen to be another one than before.
    renewed: Mutex<Option<std::time::Instant>>,
    look: Notify,
    /// Held by the look that is under way: an answer from before a refusal must not be taken for one from after it.
    looking: tokio::sync::Mutex<()>,
}

impl KeyWatch {
    /// A watch that has not looked yet.
    pub fn new(root: Arc<RootKey>, lifetimes: Lifetimes) -> Self {
        let seen = Seen { access: Access::Starting, state: None, current: None, trouble: None };
        Self {
            root,
            lifetimes,
            machine: Mutex::new(Machine::new(lifetimes.ttl, lifetimes.grace)),
            marker: Mutex::new(None),
            samples: Mutex::default(),
            crowded: AtomicBool::new(false),
            seen: watch::Sender::new(seen),
            renewed: Mutex::new(None),
            look: Notify::new(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// From now on this marker's key is the one that is unwrapped.
    pub fn set_marker(&self, region: MarkerRegion) {
        *lock(&self.marker) = Some(region);
    }

    /// The latest knowledge, and a way to wait for its change.
    pub fn subscribe(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// The latest knowledge.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The current version, where it is known.
    pub fn current(&self) -> Option<String> {
        self.seen.borrow().current.clone()
    }

    /// When the current version was last seen to change.
    pub fn renewed(&self) -> Option<std::time::Instant> {
        *lock(&self.renewed)
    }

    /// Fails unless keys may be used now.
    pub fn check(&self) -> Result<(), KeyError> {
        self.expire();
        match lock(&self.machine).access() {
            Access::Serving => Ok(()),
            Access::Starting => Err(KeyError::Unreachable("Starting")),
            Access::Suspended(why) => Err(KeyError::Suspended(why.reason)),
            Access::Unreachable(why) => Err(KeyError::Unreachable(why.reason)),
        }
    }

    /// An error that somebody met: a refusal counts at once, and anything else makes the watch look sooner.
    pub fn met(&self, error: &KeyError) {
        if let KeyError::Kms(error) = error
            && error.is_refusal()
        {
            self.look.notify_one();
        }
    }

    /// Looks now, not when the time comes.
    pub fn look_now(&self) {
        self.look.notify_one();
    }

    /// Remembers one wrapped key of each version, to be unwrapped along with the marker.
    pub fn sample(&self, key: &WrappedKey, context: KmsContext) {
        let mut samples = lock(&self.samples);
        if samples.contains_key(&key.version) {
            return;
        }
        if samples.len() < MOST_SAMPLES {
            samples.insert(key.version.clone(), (key.clone(), context));
        } else if !self.crowded.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                most = MOST_SAMPLES,
                "more key versions are in use than are asked for within the ttl; a sweep makes them fewer"
            );
        }
    }

    /// Looks again and again, for ever.
    pub async fn run(&self) {
        loop {
            self.on_time(self.look_once()).await;
            let pause = tokio::time::sleep(self.pause());
            self.on_time(async {
                tokio::select! {
                    () = pause => {}
                    () = self.look.notified() => {}
                }
            })
            .await;
        }
    }

    /// Does `work`, and says on time that keys may live no longer.
    async fn on_time(&self, work: impl Future<Output = ()>) {
        tokio::pin!(work);
        loop {
            let end = lock(&self.machine).ends();
            let over = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut work => return,
                () = over => self.expire(),
            }
        }
    }

    /// Takes keys away whose time is over.
    fn expire(&self) {
        {
            let mut machine = lock(&self.machine);
            let now = Instant::now();
            if !machine.access().serves() || machine.ends().is_none_or(|end| now < end) {
                return;
            }
            machine.unanswered(now, overdue(), true);
        }
        self.publish(|seen| seen.trouble = Some(overdue()));
    }

    /// Until the next look: shortened at random, so that a hundred sidecars do not ask at once, and early enough that its
    /// answer can come before the end of the keys.
    fn pause(&self) -> Duration {
        let (serves, denied) = {
            let seen = self.seen.borrow();
            (seen.access.serves(), seen.trouble.as_ref().is_some_and(|why| why.reason == DENIED))
        };
        let most = match (serves, denied) {
            (true, false) => self.lifetimes.poll,
            (false, false) => self.lifetimes.poll.min(IMPATIENCE),
            (_, true) => self.lifetimes.poll.min(CONFIRMATION),
        };
        let pause = most.mul_f64(1.0 - 0.4 * random_unit());
        let end = lock(&self.machine).ends().map(|end| end.saturating_duration_since(Instant::now()));
        end.map_or(pause, |end| pause.min((end / 2).max(Duration::from_millis(100))))
    }

    /// One look: the state, and an unwrap if one is due. Looks come one after the other.
    pub async fn look_once(&self) {
        let _looking = self.looking.lock().await;
        let call = CallCtx::within(PATIENCE);
        let described = self.root.describe(&call).await;
        let (mut state, mut current, mut trouble) = {
            let seen = self.seen.borrow();
            (seen.state, seen.current.clone(), None)
        };
        let verdict = match described {
            Ok(info) => {
                state = Some(info.state.as_str());
                current = info.current.map(|version| version.0).or(current);
                if info.state.unwraps() { None } else { Some(Verdict::Refused(refused_state(info.state))) }
            }
            // The right to read metadata is not the right to unwrap: ask for that.
            Err(error) if matches!(error.kind, kms::ErrorKind::Denied { .. }) => None,
            Err(error) => {
                state = refused_word(&error).or(state.filter(|_| error.is_outage()));
                Some(judge(&error))
            }
        };
        let verdict = match verdict {
            Some(verdict) => verdict,
            None if !self.proof_is_due() => Verdict::Nothing,
            None => self.prove().await,
        };
        match verdict {
            Verdict::Nothing => {}
            Verdict::Proved(asked) => lock(&self.machine).proved(asked),
            Verdict::Refused(why) => lock(&self.machine).refused(why),
            Verdict::Unanswered(why, outage) => {
                lock(&self.machine).unanswered(Instant::now(), why.clone(), outage);
                trouble = Some(why);
            }
        }
        self.publish(|seen| (seen.state, seen.current, seen.trouble) = (state, current, trouble));
    }

    fn proof_is_due(&self) -> bool {
        lock(&self.machine).needs_proof(Instant::now(), self.lifetimes.poll + PATIENCE)
    }

    /// A real unwrap of the marker's key, and of one key of each version in use.
    async fn prove(&self) -> Verdict {
        let Some(region) = lock(&self.marker).clone() else {
            return Verdict::Nothing;
        };
        let asked = Instant::now();
        let call = CallCtx::within(PATIENCE).fresh();
        if let Err(error) = marker::unlock(&region, &self.root, &call).await {
            return judge_key(&error);
        }
        let samples = lock(&self.samples).clone();
        for (version, (key, context)) in samples {
            let call = CallCtx::within(PATIENCE).fresh();
            match self.root.unwrap(&key, &context, &call).await {
                Ok(_) => {}
                // The sample's version alone is refused: everything goes, the next look brings the rest back.
                Err(error) if error.is_refusal() || error.is_outage() => return judge_key(&error),
                // This one never opens again: it says nothing about its version.
                Err(_) => {
                    lock(&self.samples).remove(&version);
                }
            }
        }
        Verdict::Proved(asked)
    }

    /// Tells what holds now, after `change`. Whoever tells last tells the latest: access is read while nobody else tells.
    fn publish(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_if_modified(|seen| {
            let old = seen.clone();
            change(seen);
            seen.access = lock(&self.machine).access().clone();
            if !seen.access.serves() {
                self.root.purge();
                lock(&self.samples).clear();
            }
            if old.current.is_some() && old.current != seen.current {
                *lock(&self.renewed) = Some(std::time::Instant::now());
            }
            *seen != old
        });
    }
}

enum Verdict {
    /// Nothing new.
    Nothing,
    /// A key was unwrapped; the question was asked then.
    Proved(Instant),
    Refused(Why),
    /// No word about the key; `true`: because of an outage.
    Unanswered(Why, bool),
}

fn judge(error: &KmsError) -> Verdict {
    let why = Why { reason: error.reason(), message: error.to_string() };
    if error.is_refusal() { Verdict::Refused(why) } else { Verdict::Unanswered(why, error.is_outage()) }
}

fn judge_key(error: &KeyError) -> Verdict {
    match error {
        KeyError::Kms(error) if error.kind != kms::ErrorKind::CiphertextInvalid => judge(error),
        // The KMS answered, and the marker does not open: not with this root key. Fail closed.
        other => Verdict::Refused(Why { reason: other.reason(), message: other.to_string() }),
    }
}

fn refused_state(state: kms::KeyState) -> Why {
    let reason = match state {
        kms::KeyState::Disabled => "KeyDisabled",
        kms::KeyState::PendingDeletion => "KeyPendingDeletion",
        kms::KeyState::Destroyed => "KeyDestroyed",
        kms::KeyState::PendingImport => "KeyPendingImport",
        kms::KeyState::Enabled | kms::KeyState::Expired => "KeyUnusable",
    };
    Why { reason, message: format!("the root key is in state {state}") }
}

/// The key state that a refusal tells.
fn refused_word(error: &KmsError) -> Option<&'static str> {
    let state = match error.kind {
        kms::ErrorKind::KeyDisabled => kms::KeyState::Disabled,
        kms::ErrorKind::KeyPendingDeletion { .. } => kms::KeyState::PendingDeletion,
        kms::ErrorKind::KeyDestroyed { .. } => kms::KeyState::Destroyed,
        _ => return None,
    };
    Some(state.as_str())
}

fn overdue() -> Why {
    Why {
        reason: contract::check_in::reasons::KMS_UNREACHABLE,
        message: "no unwrap succeeded for longer than keys may live".into(),
    }
}

/// A random number in `0.0..1.0`; 0 where the system has none, which only shortens nothing.
fn random_unit() -> f64 {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        return 0.0;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
