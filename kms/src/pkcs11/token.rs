//! The calls that a token gets: the seam between what is done with them and the library that carries them out.
//!
//! Invariant: behind it everything blocks and may never return; in front of it nothing knows the library. Tests put a token of
//! their own here, whose troubles they choose.

use std::sync::Arc;
use std::time::Instant;

use cryptoki::error::RvError;
use zeroize::Zeroizing;

use super::blob::IV;
use super::login::Door;
use super::version::{Found, Handle, VersionId};
use crate::error::ErrorKind;

/// Why a call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The library said so.
    Returned(RvError),
    /// No slot has a token of this label.
    NoToken,
    /// No moment came in time at which the library is not in use, or its login.
    Busy,
    /// Understood already: nothing that another session would change.
    Is(ErrorKind, Option<String>),
}

impl Failure {
    pub(super) fn is(kind: ErrorKind) -> Self {
        Self::Is(kind, None)
    }

    /// The site's setup cannot work.
    pub(super) fn setup(what: &str) -> Self {
        Self::is(ErrorKind::Config(what.into()))
    }
}

/// A result of a call.
pub(super) type Outcome<T> = Result<T, Failure>;

/// What a session is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To use keys.
    Read,
    /// To make, change and destroy them.
    Write,
}

/// A vendor's library in this process.
pub(super) trait Library: Send + Sync + 'static {
    /// Counts how often it was initialised: sessions of an earlier time are gone.
    fn epoch(&self) -> u64;
    /// Finalises and initialises it, unless that happened since `seen`.
    fn restart(&self, seen: u64, until: Instant) -> Outcome<()>;
    /// A session with the token of this label.
    fn open(&self, token: &str, access: Access, until: Instant) -> Outcome<Box<dyn Session>>;
    /// Who is logged in with the token of this label: the whole process is, or nobody.
    fn door(&self, token: &str) -> Arc<Door>;
}

/// What the token says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// One more wrong PIN locks it.
    pub(super) final_try: bool,
    /// It is locked.
    pub(super) locked: bool,
}

/// A session. Dropping it closes it.
pub(super) trait Session: Send {
    /// Asks the token itself; it must still be the one that this session was opened with.
    fn standing(&mut self) -> Outcome<Standing>;
    /// The user is logged in.
    fn logged_in(&mut self) -> Outcome<bool>;
    /// Logs the process in as the user.
    fn log_in(&mut self, pin: &str) -> Outcome<()>;
    /// Logs the process out.
    fn log_out(&mut self) -> Outcome<()>;
    /// Private secret keys of the token that have this label, or this label and id.
    fn find(&mut self, label: &str, id: Option<&VersionId>) -> Outcome<Vec<Found>>;
    /// AES-GCM; a token that insists on an IV of its own writes it over `iv`.
    fn encrypt(&mut self, key: Handle, iv: &mut [u8; IV], aad: &[u8], plain: &[u8]) -> Outcome<Vec<u8>>;
    /// AES-GCM.
    fn decrypt(
        &mut self,
        key: Handle,
        iv: &[u8; IV],
        aad: &[u8],
        sealed: &[u8],
    ) -> Outcome<Zeroizing<Vec<u8>>>;
    /// Generates an AES-256 key that never leaves the token.
    fn generate(&mut self, label: &str, id: &VersionId) -> Outcome<()>;
    /// Sets `CKA_DECRYPT`, and `CKA_ENCRYPT` where given.
    fn permit(&mut self, key: Handle, encrypt: Option<bool>, decrypt: bool) -> Outcome<()>;
    /// Destroys a key.
    fn destroy(&mut self, key: Handle) -> Outcome<()>;
}
