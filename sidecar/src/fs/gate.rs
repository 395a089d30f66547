//! The gate that every read and write of data passes: open, draining, or shut.
//!
//! Invariant: once [`Gate::shut`] returned `true`, nobody is inside and nobody gets in until [`Gate::open`].

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use super::error::FsError;

const OPEN: u8 = 0;
const DRAINING: u8 = 1;
const SHUT: u8 = 2;

/// See the module.
#[derive(Default)]
pub struct Gate {
    state: AtomicU8,
    inside: RwLock<()>,
}

/// Somebody is inside.
pub struct Pass<'a> {
    _guard: RwLockReadGuard<'a, ()>,
}

impl Gate {
    /// Lets a read or write in. `writeback`: of pages that were changed in a mapping before the gate closed.
    pub fn enter(&self, writeback: bool) -> Result<Pass<'_>, FsError> {
        self.check(writeback)?;
        let guard = self.inside.read().unwrap_or_else(PoisonError::into_inner);
        self.check(writeback)?;
        Ok(Pass { _guard: guard })
    }

    /// Whether one would be let in.
    pub fn check(&self, writeback: bool) -> Result<(), FsError> {
        match self.state.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            DRAINING if writeback => Ok(()),
            _ => Err(FsError::Suspended),
        }
    }

    /// Lets everybody in.
    pub fn open(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
    }

    /// From now on only writeback is let in; waits at most `patience` until the others are out.
    pub fn drain(&self, patience: Duration) -> bool {
        self.state.store(DRAINING, Ordering::SeqCst);
        self.wait_until_empty(patience)
    }

    /// From now on nobody is let in; waits at most `patience` until all are out.
    pub fn shut(&self, patience: Duration) -> bool {
        self.state.store(SHUT, Ordering::SeqCst);
        self.wait_until_empty(patience)
    }

    /// Whether it is not open.
    pub fn is_closing(&self) -> bool {
        self.state.load(Ordering::SeqCst) != OPEN
    }

    /// Waits at most `patience` until nobody is inside.
    pub fn wait_until_empty(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            match self.inside.try_write() {
                Ok(_) | Err(TryLockError::Poisoned(_)) => return true,
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return false,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_draining_gate_lets_writeback_in_and_a_shut_one_nobody() {
        let gate = Gate::default();
        drop(gate.enter(false).unwrap());
        assert!(gate.drain(SHORT));
        assert!(gate.enter(false).is_err());
        drop(gate.enter(true).unwrap());
        assert!(gate.shut(SHORT));
        assert!(gate.enter(true).is_err());
        gate.open();
        drop(gate.enter(false).unwrap());
    }

    #[test]
    fn the_gate_is_not_shut_while_somebody_is_inside() {
        let gate = Gate::default();
        let pass = gate.enter(false).unwrap();
        assert!(!gate.shut(SHORT));
        drop(pass);
        assert!(gate.shut(SHORT));
    }
}
