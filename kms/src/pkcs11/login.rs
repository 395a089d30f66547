//! Logging in: a process is logged in with a token or it is not, whoever of its connections asked for that.
//!
//! A token locks itself after a few wrong PINs. Invariant: a PIN that was called wrong is not shown again in this process unless
//! its file was written anew; the last try before a token locks is never ours; and a connection whose PIN is not the one that
//! the process is logged in with gets nothing before that PIN was accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use secrecy::SecretString;
use tokio::sync::Mutex as AsyncMutex;

use super::token::{Failure, Outcome, Session};
use super::verdict;
use crate::auth::{ReadSecret, SecretSource};
use crate::error::ErrorKind;
use crate::http::watched::Stamp;

/// How often a place is looked at that somebody else holds.
pub(super) const LOOK: Duration = Duration::from_millis(2);
/// A token that is locked, or has no PIN yet, is asked again after this time: that costs no try.
const LOCKED_PAUSE: Duration = Duration::from_mins(1);

/// The PIN of a connection.
pub(super) struct Pin {
    source: SecretSource,
    held: AsyncMutex<Option<Arc<ReadSecret>>>,
}

impl Pin {
    pub(super) fn new(path: &str, given: Option<SecretString>) -> Self {
        Self { source: SecretSource::new(path, given), held: AsyncMutex::new(None) }
    }

    /// As it is now. A file that cannot be read any more is no reason to forget what stood in it.
    pub(super) async fn current(&self) -> Result<Arc<ReadSecret>, ErrorKind> {
        let mut held = self.held.lock().await;
        if let Some(secret) = &*held
            && !self.source.changed_since(secret.stamp.as_ref()).await
        {
            return Ok(Arc::clone(secret));
        }
        match (self.source.read().await, held.as_ref()) {
            (Ok(read), _) => Ok(Arc::clone(held.insert(Arc::new(read)))),
            (Err(_), Some(old)) => Ok(Arc::clone(old)),
            (Err(kind), None) => Err(kind),
        }
    }
}

/// The door of a token: all connections of the process pass through it.
#[derive(Default)]
pub(super) struct Door(Mutex<Login>);

#[derive(Default)]
struct Login {
    /// Counts logins.
    count: u64,
    /// Who is in, as far as is known, and since which initialisation of the library.
    holder: Option<Holder>,
    rejected: HashMap<[u8; 32], Rejection>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder {
    fingerprint: [u8; 32],
    epoch: u64,
}

struct Rejection {
    /// The file as it was then.
    stamp: Option<Stamp>,
    failure: Failure,
    /// When asking again costs no try.
    again_at: Option<Instant>,
}

impl Rejection {
    fn stands(&self, pin: &ReadSecret) -> bool {
        self.stamp == pin.stamp && self.again_at.is_none_or(|at| Instant::now() < at)
    }
}

/// A login that was tried.
pub(super) struct Trial {
    pub(super) took: Duration,
    pub(super) failed: Option<Failure>,
}

/// What is needed to pass.
pub(super) struct Visitor<'a> {
    pub(super) pin: &'a ReadSecret,
    pub(super) epoch: u64,
    pub(super) until: Instant,
    /// Told of each login.
    pub(super) report: &'a dyn Fn(&Trial),
}

impl Door {
    /// Sees to it that the process is logged in with the visitor's own PIN; returns which login that was.
    pub(super) fn pass(&self, session: &mut dyn Session, visitor: &Visitor<'_>) -> Outcome<u64> {
        let mut login = self.wait(visitor.until)?;
        let wanted = Holder { fingerprint: visitor.pin.fingerprint, epoch: visitor.epoch };
        if login.holder == Some(wanted) {
            return Ok(login.count);
        }
        if let Some(old) = login.rejected.get(&wanted.fingerprint).filter(|old| old.stands(visitor.pin)) {
            return Err(old.failure.clone());
        }
        let standing = session.standing()?;
        if standing.locked || standing.final_try {
            let code = if standing.locked { "CKF_USER_PIN_LOCKED" } else { "CKF_USER_PIN_FINAL_TRY" };
            return Err(Failure::Is(ErrorKind::CredentialRejected, Some(code.into())));
        }
        let began = Instant::now();
        let tried = login.replace(session, &visitor.pin.text);
        (visitor.report)(&Trial { took: began.elapsed(), failed: tried.clone().err() });
        match tried {
            Ok(()) => {
                login.rejected.remove(&wanted.fingerprint);
                login.holder = Some(wanted);
                login.count += 1;
                Ok(login.count)
            }
            Err(failure) => Err(login.note(failure, visitor.pin)),
        }
    }

    /// The login of this count is still the last one.
    pub(super) fn is(&self, count: u64, until: Instant) -> bool {
        self.wait(until).is_ok_and(|login| login.count == count)
    }

    /// The login of this count is over, if it is still the last one.
    pub(super) fn lost(&self, count: u64, until: Instant) {
        if let Ok(mut login) = self.wait(until)
            && login.count == count
        {
            login.holder = None;
        }
    }

    /// Somebody may be in there with a library that does not return.
    fn wait(&self, until: Instant) -> Outcome<MutexGuard<'_, Login>> {
        loop {
            match self.0.try_lock() {
                Ok(login) => return Ok(login),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(Failure::Busy),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
    }
}

impl Login {
    /// Another one's login would let any PIN pass unseen, so it ends first.
    fn replace(&mut self, session: &mut dyn Session, pin: &str) -> Outcome<()> {
        if self.holder.take().is_some() {
            log_out(session)?;
        }
        match session.log_in(pin) {
            Err(Failure::Returned(RvError::UserAlreadyLoggedIn)) => {
                log_out(session)?;
                session.log_in(pin)
            }
            done => done,
        }
    }

    /// Keeps a rejection in mind.
    fn note(&mut self, failure: Failure, pin: &ReadSecret) -> Failure {
        let (kind, _) = verdict::judge(&failure);
        let Failure::Returned(rv) = failure else { return failure };
        if kind != ErrorKind::CredentialRejected {
            return failure;
        }
        let costs_no_try =
            matches!(rv, RvError::PinLocked | RvError::PinExpired | RvError::UserPinNotInitialized);
        let again_at = costs_no_try.then(|| Instant::now() + LOCKED_PAUSE);
        let failure = Failure::Is(kind, verdict::code(&failure));
        let rejection = Rejection { stamp: pin.stamp.clone(), failure: failure.clone(), again_at };
        self.rejected.insert(pin.fingerprint, rejection);
        failure
    }
}

fn log_out(session: &mut dyn Session) -> Outcome<()> {
    match session.log_out() {
        Err(Failure::Returned(RvError::UserNotLoggedIn)) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
#[path = "tests/login.rs"]
mod tests;
