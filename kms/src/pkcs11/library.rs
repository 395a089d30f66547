//! A vendor's library, loaded into this process.
//!
//! Invariant: each file is loaded once and initialised once, with the locks of the operating system, however many connections use
//! it; it is never unloaded. It is finalised only while no call is under way in it, and no session of before is used or closed
//! after that: its number may be another one's then.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError, Weak};
use std::time::Instant;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::slot::Slot;

use super::login::{Door, LOOK};
use super::session::OpenSession;
use super::token::{Access, Failure, Library, Outcome, Session};

/// A library.
pub(super) struct Module {
    path: PathBuf,
    gate: RwLock<State>,
    epoch: AtomicU64,
    doors: Mutex<HashMap<String, Arc<Door>>>,
    own: Weak<Self>,
}

#[derive(Default)]
struct State {
    context: Option<Pkcs11>,
    initialised: bool,
}

impl Module {
    /// The one of this path in this process. It is loaded when it is first used.
    pub(super) fn of(path: &Path) -> Arc<Self> {
        static LOADED: Mutex<Option<HashMap<PathBuf, Arc<Module>>>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let modules = loaded.get_or_insert_default();
        Arc::clone(modules.entry(path.into()).or_insert_with(|| {
            Arc::new_cyclic(|own| Self {
                path: path.into(),
                gate: RwLock::default(),
                epoch: AtomicU64::new(0),
                doors: Mutex::default(),
                own: Weak::clone(own),
            })
        }))
    }

    /// A call into the library, for a session of `epoch`.
    pub(super) fn call<T>(&self, epoch: u64, call: impl FnOnce(&Pkcs11) -> Result<T, Error>) -> Outcome<T> {
        let gate = self.enter();
        match &gate.context {
            Some(context) if gate.initialised && self.epoch() == epoch => {
                call(context).map_err(|error| failure(&error))
            }
            _ => Err(Failure::Returned(RvError::SessionHandleInvalid)),
        }
    }

    fn enter(&self) -> RwLockReadGuard<'_, State> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no call is under way. It is polled for, so that a call that never returns holds up nobody but this.
    fn alone(&self, until: Instant) -> Outcome<RwLockWriteGuard<'_, State>> {
        loop {
            match self.gate.try_write() {
                Ok(state) => return Ok(state),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(Failure::Busy),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
    }

    fn initialise(&self, state: &mut State) -> Outcome<()> {
        let context = match &state.context {
            Some(context) => context,
            None => state.context.insert(Pkcs11::new(&self.path).map_err(|error| failure(&error))?),
        };
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // By somebody else in this process.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failure(&error)),
        }
        state.initialised = true;
        self.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Library for Module {
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn restart(&self, seen: u64, until: Instant) -> Outcome<()> {
        let mut state = self.alone(until)?;
        if self.epoch() != seen {
            return Ok(());
        }
        if let Some(context) = &state.context {
            // Whether it can still be finalised does not matter: what matters is whether it can be initialised.
            let _ = context.clone().finalize();
        }
        state.initialised = false;
        self.initialise(&mut state)
    }

    fn open(&self, token: &str, access: Access, until: Instant) -> Outcome<Box<dyn Session>> {
        if !self.enter().initialised {
            let mut state = self.alone(until)?;
            if !state.initialised {
                self.initialise(&mut state)?;
            }
        }
        let gate = self.enter();
        let epoch = self.epoch();
        let (Some(context), Some(module)) = (&gate.context, self.own.upgrade()) else {
            return Err(Failure::Returned(RvError::CryptokiNotInitialized));
        };
        let slot = slot_of(context, token)?;
        let mechanisms = context.get_mechanism_list(slot).map_err(|error| failure(&error))?;
        if !mechanisms.contains(&MechanismType::AES_GCM) {
            return Err(Failure::setup("the token has no CKM_AES_GCM"));
        }
        let session = match access {
            Access::Read => context.open_ro_session_no_drop(slot),
            Access::Write => context.open_rw_session_no_drop(slot),
        };
        let session = session.map_err(|error| failure(&error))?;
        drop(gate);
        Ok(Box::new(OpenSession::new(module, epoch, slot, token, session)))
    }

    fn door(&self, token: &str) -> Arc<Door> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(doors.entry(token.into()).or_default())
    }
}

/// The slot with the token of this label.
fn slot_of(context: &Pkcs11, token: &str) -> Outcome<Slot> {
    let (mut of_label, mut unreadable) = (Vec::new(), None);
    for slot in context.get_slots_with_token().map_err(|error| failure(&error))? {
        match context.get_token_info(slot) {
            Ok(info) if info.label() == token => of_label.push(slot),
            Ok(_) => {}
            Err(error) => unreadable = Some(failure(&error)),
        }
    }
    match (of_label.as_slice(), unreadable) {
        ([slot], _) => Ok(*slot),
        ([], Some(failure)) => Err(failure),
        ([], None) => Err(Failure::NoToken),
        _ => Err(Failure::setup("several tokens have this label")),
    }
}

/// What the bindings say.
pub(super) fn failure(error: &Error) -> Failure {
    match error {
        Error::Pkcs11(rv, _) => Failure::Returned(*rv),
        Error::LibraryLoading(_) | Error::MissingSymbol(_) => {
            Failure::setup("the library cannot be loaded, or is none of pkcs#11")
        }
        Error::NotSupported | Error::NullFunctionPointer => {
            Failure::setup("the library lacks a function of pkcs#11")
        }
        _ => Failure::is(crate::error::ErrorKind::Integrity("it cannot be parsed")),
    }
}
