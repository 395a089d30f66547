//! The lease on this pod's FUSE mounts: one connection to the node driver, made anew whenever the driver restarts.
//!
//! Invariant: what was granted is resumed on every new connection before anything else is asked; beats are sent only where the
//! driver has agreed to count them, on this very connection.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use contract::control::{Refusal, Request};

use super::driver::{Driver, DriverError};

/// The connection and what it holds.
pub struct DriverLink {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    driver: Option<Driver>,
    granted: HashMap<String, Granted>,
    /// What a resumption brought that the volume's own thread has not seen yet.
    refused: HashMap<String, Refusal>,
}

#[derive(Clone, Copy)]
struct Granted {
    connection: u32,
    serving: bool,
    beats: Option<Beats>,
}

/// The driver counts the beats of a volume.
#[derive(Clone, Copy)]
struct Beats {
    every: Duration,
    last: Option<Instant>,
}

impl Beats {
    /// One more, if it is time: a little early rather than late.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= self.every.mul_f32(0.75));
        if due {
            self.last = Some(now);
        }
        due
    }
}

impl DriverLink {
    /// A link to the socket at `path`. Connects when it is first used.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), inner: Mutex::default() }
    }

    /// The FUSE descriptor of a volume.
    pub fn attach(&self, volume: &str) -> Result<OwnedFd, DriverError> {
        let mut inner = self.inner();
        inner.refused.remove(volume);
        let (fd, connection) = inner.with(&self.path, |driver| driver.attach(volume))?;
        inner.granted.insert(volume.to_owned(), Granted { connection, serving: false, beats: None });
        Ok(fd)
    }

    /// INIT was answered.
    pub fn serving(&self, volume: &str) -> Result<(), DriverError> {
        let mut inner = self.inner();
        let every = inner.with(&self.path, |driver| driver.serving(volume))?;
        if let Some(granted) = inner.granted.get_mut(volume) {
            granted.serving = true;
        }
        inner.agreed(volume, every);
        Ok(())
    }

    /// The threads that serve the volume get on: tells the driver, if it counts that and it is time to. Does not connect.
    pub fn beat(&self, volume: &str, now: Instant) {
        let mut inner = self.inner();
        let Inner { driver: Some(driver), granted, .. } = &mut *inner else { return };
        let beats = granted.get_mut(volume).and_then(|granted| granted.beats.as_mut());
        if beats.is_some_and(|beats| beats.is_due(now))
            && let Err(error) = driver.beat(volume)
        {
            // The next look finds the connection broken, and resumes.
            tracing::debug!(%volume, %error, "a beat was not sent");
        }
    }

    /// The volume will no more be served.
    pub fn detach(&self, volume: &str) -> Result<(), DriverError> {
        let mut inner = self.inner();
        let request = Request::Detach { volume: volume.to_owned() };
        let result = inner.with(&self.path, |driver| driver.done(&request));
        inner.granted.remove(volume);
        result
    }

    /// Whether a volume was granted and not yet detached.
    pub fn holds_any(&self) -> bool {
        !self.inner().granted.is_empty()
    }

    /// Called every second: finds out whether the driver has gone, and resumes.
    pub fn keep(&self) {
        let mut inner = self.inner();
        if inner.granted.is_empty() {
            return;
        }
        if inner.driver.as_ref().is_some_and(Driver::is_broken) {
            tracing::warn!("the node driver has gone; data is served on");
            inner.driver = None;
        }
        if let Err(error) = inner.ensure(&self.path) {
            tracing::debug!(error = &error as &dyn std::error::Error, "the node driver is not back yet");
        }
    }

    /// What the driver said about a volume when it was resumed.
    pub fn refused(&self, volume: &str) -> Option<Refusal> {
        self.inner().refused.remove(volume)
    }

    /// Whether [`DriverLink::refused`] has something to say.
    pub fn peek_refused(&self, volume: &str) -> bool {
        // Asked often, from a thread that must not wait for the driver.
        self.inner.try_lock().is_ok_and(|inner| inner.refused.contains_key(volume))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn with<T>(
        &mut self,
        path: &Path,
        ask: impl FnOnce(&Driver) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        self.ensure(path)?;
        let gone = || DriverError::Io(io::Error::from(io::ErrorKind::NotConnected));
        let result = ask(self.driver.as_ref().ok_or_else(gone)?);
        if matches!(result, Err(DriverError::Io(_) | DriverError::Protocol)) {
            // After half an exchange the next answer could be to the last question.
            self.driver = None;
        }
        result
    }

    /// Connects if need be, and takes the leases up again.
    fn ensure(&mut self, path: &Path) -> Result<(), DriverError> {
        if self.driver.is_some() {
            return Ok(());
        }
        let driver = Driver::connect(path)?;
        for (volume, granted) in self.granted.clone() {
            let resume = Request::Resume { volume: volume.clone(), connection: granted.connection };
            match driver.done(&resume) {
                Ok(()) => {}
                Err(DriverError::Refused { reason: Refusal::Unavailable, .. }) => {
                    return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
                }
                Err(DriverError::Refused { reason, message }) => {
                    tracing::warn!(%volume, ?reason, message, "the node driver does not resume the session");
                    self.granted.remove(&volume);
                    self.refused.insert(volume, reason);
                    continue;
                }
                Err(error) => return Err(error),
            }
            if granted.serving {
                let every = driver.serving(&volume).or_else(|error| match error {
                    // It counted as served already.
                    DriverError::Refused { .. } => Ok(None),
                    other => Err(other),
                })?;
                self.agreed(&volume, every);
            }
        }
        self.driver = Some(driver);
        Ok(())
    }

    /// What the driver on this connection said about beats.
    fn agreed(&mut self, volume: &str, every: Option<Duration>) {
        if every.is_none() {
            tracing::warn!(%volume, "the node driver is of an older version: it does not notice when this sidecar hangs");
        }
        if let Some(granted) = self.granted.get_mut(volume) {
            granted.beats = every.map(|every| Beats { every, last: None });
        }
    }
}

#[cfg(test)]
#[path = "tests/link.rs"]
mod tests;
