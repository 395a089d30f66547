//! A volume's FUSE session: the descriptor from the node driver, served from the first moment: by a waiting room until the
//! volume is open, then by its filesystem.
//!
//! Invariant: INIT is answered whatever the KMS does, and the driver is told that it was.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use contract::check_in::{VolumePhase, reasons};
use contract::config::Ownership;
use contract::control::Refusal;
use rustix::io::Errno;

use super::board::Row;
use super::context::Context;
use super::driver::DriverError;
use super::volume_task::Served;
use super::waiting_room::{Host, RoomEnd, WaitingRoom, describe};
use crate::fuse::{Negotiated, Pulse, Session, Sign, Vitals};
use crate::gate;
use crate::volume;

/// Between two requests to the driver that refused.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at whether a session should go on.
const LOOK: Duration = Duration::from_millis(250);
/// How long requests that are under way may keep a session from ending once its connection has.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// What stands between the kernel and a volume that may not be open yet.
pub struct Door {
    name: String,
    row: Arc<Row>,
    gate_key: Vec<u8>,
    ownership: Ownership,
    served: OnceLock<Arc<Served>>,
    /// How often the waiting room came round.
    rounds: AtomicU64,
    /// The session behind the waiting room, while there is one.
    vitals: Mutex<Option<Vitals>>,
    pulse: Mutex<Pulse>,
}

impl Door {
    /// A closed door. `ownership`: of the volume, if it is initialised now.
    pub fn new(name: &str, row: Arc<Row>, gate_key: Vec<u8>, ownership: Ownership) -> Self {
        Self {
            name: name.to_owned(),
            row,
            gate_key,
            ownership,
            served: OnceLock::new(),
            rounds: AtomicU64::new(0),
            vitals: Mutex::default(),
            pulse: Mutex::new(Pulse::new(Instant::now())),
        }
    }

    /// Tells the driver that the volume is served, if whoever answers its requests gets on.
    pub fn attest(&self, context: &Context, now: Instant) {
        if lock(&self.pulse).serves(self.sign(), now) {
            context.link.beat(&self.name, now);
        }
    }

    /// What those who answer requests are doing: the session's threads, or the one of the waiting room.
    fn sign(&self) -> Option<Sign> {
        match &*lock(&self.vitals) {
            Some(session) => session.sign(),
            None => Some(Sign { idle: false, done: self.rounds.load(Ordering::Relaxed) }),
        }
    }

    /// The volume is open.
    pub fn open(&self, served: Arc<Served>) {
        let (row, key, name) = (Arc::clone(&self.row), self.gate_key.clone(), self.name.clone());
        served.fs.set_challenge(Box::new(move |nonce| answer(&row, &key, &name, nonce)));
        let _ = self.served.set(served);
    }

    /// The volume, once it is open.
    pub fn served(&self) -> Option<&Arc<Served>> {
        self.served.get()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(row: &Row, key: &[u8], name: &str, nonce: &str) -> Option<Vec<u8>> {
    let state = row.state();
    let serving = state.phase == VolumePhase::Serving;
    gate::answer(key, name, nonce, serving, &state.reason, &state.message)
}

/// Serves the volume's session until the process ends.
pub fn supervise(context: &Arc<Context>, row: &Arc<Row>, door: &Arc<Door>) {
    loop {
        let Some(device) = attach(context, row, door) else { return };
        match serve(context, row, door, device) {
            Next::Again => {}
            Next::Lost(text) => {
                row.give_up(reasons::SESSION_LOST, text);
                return;
            }
            Next::Stop => return,
        }
    }
}

enum Next {
    /// The driver mounted anew.
    Again,
    /// Nothing can be served any more.
    Lost(String),
    /// The process ends.
    Stop,
}

/// Asks the driver until it grants; `None` if it never will, or the process ends.
fn attach(context: &Context, row: &Row, door: &Door) -> Option<OwnedFd> {
    let mut last = String::new();
    loop {
        if *context.stop.borrow() {
            return None;
        }
        let error = match context.link.attach(&door.name) {
            Ok(device) => return Some(device),
            Err(error) => error,
        };
        let text = error.to_string();
        if text != last {
            tracing::warn!(volume = %door.name, error = &error as &dyn std::error::Error, "no FUSE descriptor yet");
            last = text;
        }
        if let DriverError::Refused { reason: Refusal::SessionLost, message } = error {
            row.give_up(reasons::SESSION_LOST, message);
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

fn serve(context: &Arc<Context>, row: &Arc<Row>, door: &Arc<Door>, device: OwnedFd) -> Next {
    let native = is_native(context, door);
    let visitor = Visitor { context, row, door };
    match WaitingRoom::new(&device, native).run(&visitor) {
        RoomEnd::Gone(error) => ended(context, door, &describe(error)),
        RoomEnd::NeverStarted | RoomEnd::Over(_) if *context.stop.borrow() => Next::Stop,
        RoomEnd::NeverStarted => Next::Again,
        RoomEnd::Over(agreed) => match door.served() {
            Some(served) => serve_open(context, door, served, device, agreed),
            None => refused(context, door).unwrap_or(Next::Again),
        },
    }
}

/// Before INIT it must be known whether ACLs are agreed; the marker says it without any key.
fn is_native(context: &Context, door: &Door) -> bool {
    match volume::peek(&context.places.raw.join(&door.name)) {
        Ok(region) => region.marker().options().ownership == envelope::Ownership::Native,
        Err(_) => door.ownership == Ownership::Native,
    }
}

fn serve_open(
    context: &Context,
    door: &Door,
    served: &Arc<Served>,
    device: OwnedFd,
    agreed: Negotiated,
) -> Next {
    if !agreed.can_resend {
        door.row.warn(reasons::NO_TAKEOVER);
    }
    let session = match Session::resume(device, Arc::clone(&served.fs) as _, agreed) {
        Ok(session) => session,
        Err(error) => return Next::Lost(format!("cannot serve the connection: {error}")),
    };
    *lock(&door.vitals) = Some(session.vitals());
    let next = follow(context, door, &session);
    if !matches!(next, Next::Stop) {
        // Until the volume is detached its threads go on, and so do its beats.
        *lock(&door.vitals) = None;
    }
    next
}

fn follow(context: &Context, door: &Door, session: &Session) -> Next {
    loop {
        if let Some(end) = session.wait_for(LOOK) {
            return ended(context, door, &format!("the connection ended: {end:?}"));
        }
        // A session that the driver aborted ends by itself; one that it replaced does not.
        if *context.stop.borrow() {
            return Next::Stop;
        }
        if session.is_cut() && session.wait_for(STRAGGLERS).is_none() {
            // Threads that hang never come to see it, and somebody must say that the pod is to be replaced.
            return Next::Lost("the connection ended while requests hung; the pod must be replaced".into());
        }
    }
}

fn ended(context: &Context, door: &Door, why: &str) -> Next {
    if *context.stop.borrow() {
        return Next::Stop;
    }
    refused(context, door).unwrap_or_else(|| Next::Lost(format!("{why}; the pod must be replaced")))
}

/// What the driver said when it came back.
fn refused(context: &Context, door: &Door) -> Option<Next> {
    match context.link.refused(&door.name)? {
        Refusal::AttachAgain => Some(Next::Again),
        reason => Some(Next::Lost(format!("the node driver no longer knows the session: {reason:?}"))),
    }
}

/// The waiting room of this volume.
struct Visitor<'a> {
    context: &'a Arc<Context>,
    row: &'a Arc<Row>,
    door: &'a Arc<Door>,
}

impl Host for Visitor<'_> {
    fn challenge(&self, nonce: &str) -> Option<Vec<u8>> {
        answer(self.row, &self.door.gate_key, &self.door.name, nonce)
    }

    fn errno(&self) -> Errno {
        match self.row.state().phase {
            VolumePhase::Suspended => Errno::NOKEY,
            _ => Errno::AGAIN,
        }
    }

    fn started(&self) {
        // The driver may take long, and the room must go on answering.
        let (context, name) = (Arc::clone(self.context), self.door.name.clone());
        let tell = move || {
            while !*context.stop.borrow() {
                match context.link.serving(&name) {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(volume = %name, error = &error as &dyn std::error::Error, "the driver does not count the volume as served yet");
                    }
                }
                std::thread::sleep(PAUSE);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("serving".into()).spawn(tell) {
            tracing::error!(%error, "cannot tell the driver that the volume is served");
        }
    }

    fn is_over(&self, started: bool) -> bool {
        self.door.rounds.fetch_add(1, Ordering::Relaxed);
        let replaced = || self.context.link.peek_refused(&self.door.name);
        (started && self.door.served().is_some()) || *self.context.stop.borrow() || replaced()
    }
}
