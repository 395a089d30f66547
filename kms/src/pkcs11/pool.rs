//! Sessions: a bounded number, each used by one thread of its own at a time.
//!
//! A library blocks, and may never return. Invariant: a call ends in time whatever the library does; its session and its place
//! are given to nobody else before it returns; and a session is closed or handed on, never forgotten. The threads are not those
//! of the runtime, which would wait for them when it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time;

use super::login::{Door, Pin, Trial, Visitor};
use super::token::{Access, Failure, Library, Outcome, Session};
use super::verdict::{self, Cure};
use super::{PROVIDER, work::Work};
use crate::auth::ReadSecret;
use crate::call::{CallCtx, Op};
use crate::connect::Options;
use crate::error::{ErrorKind, KmsError, Outage, Result};
use crate::observe::{Auditor, Ended, Observer};
use crate::place::Place;

/// A token has few sessions, and many programs want some.
const MOST: usize = 16;
/// How long the end of a connection is held up at most.
const CLOSING: Duration = Duration::from_millis(500);
/// Between two initialisations that did not help, at first and at last. They end the sessions of others in this process.
const RESTART_PAUSE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// The way to a token.
pub(super) struct Pool {
    seats: Arc<Seats>,
    places: Arc<Semaphore>,
    pin: Pin,
    longest: Duration,
}

/// What the threads share.
struct Seats {
    library: Arc<dyn Library>,
    door: Arc<Door>,
    token: String,
    idle: Mutex<Vec<Box<dyn Session>>>,
    restarts: Mutex<Restarts>,
    /// A value went there and back unharmed.
    proven: AtomicBool,
    observer: Arc<dyn Observer>,
    auditor: Arc<dyn Auditor>,
}

impl Drop for Seats {
    fn drop(&mut self) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        if idle.is_empty() {
            return;
        }
        // Closing may block for ever, and who drops this may not; but a program that ends should not end in its middle.
        let (closed, wait) = mpsc::channel();
        let close = move || {
            drop(idle);
            let _ = closed.send(());
        };
        if thread::Builder::new().name("pkcs11-close".into()).spawn(close).is_ok() {
            let _ = wait.recv_timeout(CLOSING);
        }
    }
}

struct Restarts {
    not_before: Option<Instant>,
    pause: Duration,
}

/// Where the work of one call is done.
pub(super) struct Desk<'a> {
    pub(super) work: Work<'a>,
    proven: &'a AtomicBool,
}

impl Desk<'_> {
    /// This connection has not yet seen that the token gives back what it was given.
    pub(super) fn unproven(&self) -> bool {
        !self.proven.load(Ordering::Relaxed)
    }

    pub(super) fn proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }
}

/// One call on its way.
struct Visit {
    seats: Arc<Seats>,
    pin: Arc<ReadSecret>,
    call: CallCtx,
    /// Of the key.
    label: String,
    access: Access,
    until: Instant,
}

impl Pool {
    pub(super) fn new(library: Arc<dyn Library>, token: &str, pin: Pin, options: &Options) -> Self {
        let restarts = Mutex::new(Restarts { not_before: None, pause: RESTART_PAUSE[0] });
        let seats = Seats {
            door: library.door(token),
            library,
            token: token.into(),
            idle: Mutex::default(),
            restarts,
            proven: AtomicBool::new(false),
            observer: Arc::clone(&options.observer),
            auditor: Arc::clone(&options.auditor),
        };
        let places = Arc::new(Semaphore::new(options.max_concurrency.clamp(1, MOST)));
        Self { seats: Arc::new(seats), places, pin, longest: options.attempt_timeout }
    }

    /// Does something with a session, logged in. It is done twice where the first session, login or initialisation turned out to
    /// be gone; to change something, only where it is certain that the first time did nothing.
    pub(super) async fn run<T, F>(&self, place: &Place<'_>, access: Access, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Desk<'_>) -> Outcome<T> + Send + 'static,
    {
        let left = place.call.remaining().unwrap_or(self.longest).min(self.longest);
        let until = time::Instant::now() + left;
        let late = || {
            let kind = ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None };
            place.failed(kind, None, None)
        };
        let done = time::timeout_at(until, async {
            let permit = Arc::clone(&self.places).acquire_owned().await;
            let permit = permit.expect("this semaphore is never closed");
            let pin = self.pin.current().await.map_err(|kind| error(place, &Failure::is(kind)))?;
            let visit = Visit {
                seats: Arc::clone(&self.seats),
                pin,
                call: place.call.clone(),
                label: place.key.map(|key| key.0.clone()).unwrap_or_default(),
                access,
                until: until.into_std(),
            };
            Ok(visit.send(permit, job))
        });
        let answer = done.await.map_err(|_| late())??;
        match time::timeout_at(until, answer).await {
            Ok(Ok(result)) => result.map_err(|failed| error(place, &failed)),
            // The thread could not be had, or it broke.
            Ok(Err(_)) => {
                let kind = ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None };
                Err(place.failed(kind, None, None))
            }
            Err(_) => Err(late()),
        }
    }

    /// Sessions that wait for work.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.seats.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Places that nobody has.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places.available_permits()
    }
}

fn error(place: &Place<'_>, failure: &Failure) -> KmsError {
    let (kind, code) = (verdict::judge(failure).0, verdict::code(failure));
    match kind {
        // Of the login that the operation rests on.
        ErrorKind::CredentialRejected | ErrorKind::CredentialUnreadable => {
            place.concerning(authentication(kind, code, place.call))
        }
        kind => place.failed(kind, None, code),
    }
}

fn authentication(kind: ErrorKind, code: Option<String>, call: &CallCtx) -> KmsError {
    let mut error = KmsError::new(kind, PROVIDER, Op::Authenticate);
    error.context.code = code;
    error.context.correlation_id = Some(call.correlation_id);
    error
}

impl Visit {
    /// Does the work in a thread of its own.
    fn send<T, F>(self, permit: OwnedSemaphorePermit, job: F) -> oneshot::Receiver<Outcome<T>>
    where
        T: Send + 'static,
        F: Fn(&mut Desk<'_>) -> Outcome<T> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        // Where no thread can be had, the answer's other end is dropped, and that is the answer.
        let _ = thread::Builder::new().name("pkcs11".into()).spawn(move || {
            let done = self.make(&job);
            drop(permit);
            // Nobody may be waiting any more.
            let _ = answer.send(done);
        });
        receiver
    }

    /// Tries until it is done, or until a failure comes that nothing cures or that its cure did not.
    fn make<T>(&self, job: &dyn Fn(&mut Desk<'_>) -> Outcome<T>) -> Outcome<T> {
        let mut cured = Vec::new();
        loop {
            let failed = match self.turn(job) {
                Ok(done) => {
                    self.seats.well();
                    return Ok(done);
                }
                Err(failed) => failed,
            };
            let (_, cure) = verdict::judge(&failed.failure);
            let late = Instant::now() >= self.until;
            if late || cured.contains(&cure) || !self.cure(&failed) {
                return Err(failed.failure);
            }
            cured.push(cure);
        }
    }

    /// Puts right what a failure says is wrong; `false`: nothing can, or may.
    fn cure(&self, failed: &Failed) -> bool {
        let (_, cure) = verdict::judge(&failed.failure);
        let not_done = match &failed.failure {
            Failure::Returned(rv) => matches!(
                rv,
                RvError::UserNotLoggedIn
                    | RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::CryptokiNotInitialized
            ),
            _ => true,
        };
        if self.access == Access::Write && failed.at_work && !not_done {
            return false;
        }
        match cure {
            Cure::None => false,
            Cure::LogIn => {
                self.seats.door.lost(failed.login, self.until);
                true
            }
            Cure::Session => {
                self.seats.clear();
                true
            }
            Cure::Restart => {
                self.seats.clear();
                let finalised = failed.failure == Failure::Returned(RvError::CryptokiNotInitialized);
                (finalised || self.seats.may_restart())
                    && self.seats.library.restart(failed.epoch, self.until).is_ok()
            }
        }
    }

    /// One try: a session, the login, the work.
    fn turn<T>(&self, job: &dyn Fn(&mut Desk<'_>) -> Outcome<T>) -> std::result::Result<T, Failed> {
        let seats = &*self.seats;
        let epoch = seats.library.epoch();
        let failed = |failure, login, at_work| Failed { failure, epoch, login, at_work };
        let opened = match self.access {
            Access::Read => seats.take().map_or_else(|| self.open(), Ok),
            Access::Write => self.open(),
        };
        let mut session = opened.map_err(|failure| failed(failure, 0, false))?;
        // Initialising counts, and may just have been done to open the session.
        let epoch = seats.library.epoch();
        let failed = |failure, login, at_work| Failed { failure, epoch, login, at_work };
        let report = |trial: &Trial| self.report(trial);
        let visitor = Visitor { pin: &self.pin, epoch, until: self.until, report: &report };
        let login = seats.door.pass(&mut *session, &visitor).map_err(|failure| failed(failure, 0, false))?;
        let steady = || seats.door.is(login, self.until);
        let work = Work { session: &mut *session, label: &self.label, steady: &steady };
        match job(&mut Desk { work, proven: &seats.proven }) {
            Ok(done) => {
                self.put_back(session);
                Ok(done)
            }
            Err(failure) => {
                // What was understood leaves nothing half done in the session.
                let whole = matches!(failure, Failure::Is(..) | Failure::Returned(RvError::UserNotLoggedIn));
                if whole {
                    self.put_back(session);
                }
                Err(failed(failure, login, true))
            }
        }
    }

    fn open(&self) -> Outcome<Box<dyn Session>> {
        self.seats.library.open(&self.seats.token, self.access, self.until)
    }

    fn put_back(&self, session: Box<dyn Session>) {
        if self.access == Access::Read {
            self.seats.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }

    fn report(&self, trial: &Trial) {
        let failed = trial
            .failed
            .as_ref()
            .map(|failure| authentication(verdict::judge(failure).0, verdict::code(failure), &self.call));
        let ended = Ended::authentication(PROVIDER, &self.call, trial.took, failed.as_ref());
        self.seats.auditor.record(ended.event());
        ended.count(&*self.seats.observer);
    }
}

/// A turn that failed.
struct Failed {
    failure: Failure,
    /// The library's epoch.
    epoch: u64,
    /// The login that it had.
    login: u64,
    /// It came to the work.
    at_work: bool,
}

impl Seats {
    fn take(&self) -> Option<Box<dyn Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// What one session met, the others will meet too.
    fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    fn may_restart(&self) -> bool {
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if restarts.not_before.is_some_and(|at| now < at) {
            return false;
        }
        restarts.not_before = Some(now + restarts.pause);
        restarts.pause = (restarts.pause * 2).min(RESTART_PAUSE[1]);
        true
    }

    /// All is well again.
    fn well(&self) {
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        *restarts = Restarts { not_before: None, pause: RESTART_PAUSE[0] };
    }
}

#[cfg(test)]
#[path = "tests/pool.rs"]
mod tests;
