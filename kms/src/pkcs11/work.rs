//! What is done with a session for each operation.
//!
//! Invariant: "nothing found" is believed only of a token that is there and of a process that is logged in: a token that was
//! lost, and one that nobody is logged in with, find nothing either, with `CKR_OK`. And a blob is called wrong only where the
//! token does the same thing right with a throw-away value.

use cryptoki::error::RvError;
use zeroize::Zeroizing;

use super::blob::{Blob, Head, IV, SEALED};
use super::token::{Failure, Outcome, Session};
use super::verdict::{self, Blame};
use super::version::{Version, VersionId};
use crate::call::EncCtx;
use crate::error::{ErrorKind, Outage};
use crate::key::{KeyState, PlainKey, Wrapped};

/// What a throw-away value is bound to: no context is as short.
const CANARY: &[u8] = b"cofferdam/canary";

/// A root key as this session sees it.
pub(super) struct Work<'a> {
    pub(super) session: &'a mut dyn Session,
    pub(super) label: &'a str,
    /// Nobody has logged the process in since this began.
    pub(super) steady: &'a dyn Fn() -> bool,
}

impl Work<'_> {
    /// All versions, the current one first; never none.
    pub(super) fn versions(&mut self) -> Outcome<Vec<Version>> {
        let found = self.session.find(self.label, None)?;
        if found.is_empty() {
            self.believe()?;
            return Err(Failure::is(ErrorKind::KeyNotFound));
        }
        let mut versions: Vec<Version> = found.iter().filter_map(Version::of).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.id));
        if versions.is_empty() {
            return Err(Failure::setup(
                "no object of this label is a sensitive, not extractable aes-256 key with a 16-byte CKA_ID",
            ));
        }
        Ok(versions)
    }

    pub(super) fn current(&mut self) -> Outcome<Version> {
        let versions = self.versions()?;
        versions.first().copied().ok_or(Failure::is(ErrorKind::KeyNotFound))
    }

    /// Fails unless the token is there and the user is logged in, and was all the time: a login that came back in between would
    /// hide that nobody was when the token was asked.
    pub(super) fn believe(&mut self) -> Outcome<()> {
        self.session.standing()?;
        let all_the_time = self.session.logged_in()? && (self.steady)();
        if all_the_time { Ok(()) } else { Err(Failure::Returned(RvError::UserNotLoggedIn)) }
    }

    /// Wraps with the current version. With `prove`, a throw-away value goes there and back before.
    pub(super) fn wrap(&mut self, plain: &PlainKey, ctx: &EncCtx, prove: bool) -> Outcome<Wrapped> {
        let current = self.current()?;
        if let Some(refusal) = current.refusal() {
            return Err(Failure::is(refusal));
        }
        if prove && !self.canary(&current)? {
            return Err(Failure::is(ErrorKind::Integrity("the token does not give back what it was given")));
        }
        let head = Head::new(self.label, current.id);
        let (iv, sealed) = self.seal(&current, &head.aad(ctx), plain.expose())?;
        Ok(Blob { head, iv, sealed }.wrapped())
    }

    pub(super) fn unwrap(&mut self, blob: &Blob, ctx: &EncCtx) -> Outcome<PlainKey> {
        let version = self.version(blob)?;
        let aad = blob.head.aad(ctx);
        let first = match self.session.decrypt(version.handle, &blob.iv, &aad, &blob.sealed) {
            Ok(plain) => return plain_key(&plain),
            Err(failure) => failure,
        };
        match verdict::blame(&first) {
            Blame::Ciphertext => return Err(invalid(&first)),
            Blame::Other => return Err(self.explain(first, &version)),
            Blame::Open => {}
        }
        // Whose fault it was, the token's own or the blob's, shows in a value that is right for certain; then the blob gets
        // its second chance, because what troubled the token may have passed meanwhile.
        if !self.works(&version)? {
            let outage = ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None };
            return Err(Failure::Is(outage, verdict::code(&first)));
        }
        match self.session.decrypt(version.handle, &blob.iv, &aad, &blob.sealed) {
            Ok(plain) => plain_key(&plain),
            Err(second) if verdict::blame(&second) == Blame::Other => Err(second),
            Err(second) => Err(invalid(&second)),
        }
    }

    /// The version that a blob names.
    fn version(&mut self, blob: &Blob) -> Outcome<Version> {
        let id = blob.head.id();
        let found = self.session.find(self.label, Some(&id))?;
        let Some(version) = found.iter().find_map(Version::of) else {
            // Where none is left, that is said first.
            self.versions()?;
            self.believe()?;
            let of_this_key = blob.head.is_of(self.label);
            let gone = ErrorKind::VersionUnavailable { version: Some(id.name()) };
            return Err(Failure::is(if of_this_key { gone } else { ErrorKind::CiphertextInvalid }));
        };
        if version.decrypts { Ok(version) } else { Err(self.refused(id)?) }
    }

    /// Why a version decrypts nothing: the whole key is disabled, or it alone.
    fn refused(&mut self, id: VersionId) -> Outcome<Failure> {
        let disabled = self.current()?.state() == KeyState::Disabled;
        let alone = ErrorKind::VersionUnavailable { version: Some(id.name()) };
        Ok(Failure::is(if disabled { ErrorKind::KeyDisabled } else { alone }))
    }

    /// A key that was disabled since it was looked at.
    fn explain(&mut self, failure: Failure, version: &Version) -> Failure {
        if failure != Failure::Returned(RvError::KeyFunctionNotPermitted) {
            return failure;
        }
        match self.session.find(self.label, Some(&version.id)) {
            Ok(found) if found.iter().any(|found| !found.decrypts) => {
                self.refused(version.id).unwrap_or(failure)
            }
            _ => failure,
        }
    }

    /// The token encrypts and decrypts: with this version, or where it no longer encrypts with the current one. Where neither
    /// does, nobody can tell.
    fn works(&mut self, version: &Version) -> Outcome<bool> {
        let on = if version.encrypts { *version } else { self.current()? };
        if on.refusal().is_some() {
            return Ok(false);
        }
        self.canary(&on)
    }

    fn canary(&mut self, version: &Version) -> Outcome<bool> {
        let value = PlainKey::random().map_err(|_| Failure::is(ErrorKind::Integrity("no random numbers")))?;
        let (iv, sealed) = self.seal(version, CANARY, value.expose())?;
        let back = self.session.decrypt(version.handle, &iv, CANARY, &sealed)?;
        Ok(back.as_slice() == value.expose())
    }

    fn seal(&mut self, version: &Version, aad: &[u8], plain: &[u8; 32]) -> Outcome<([u8; IV], [u8; SEALED])> {
        let mut iv = [0; IV];
        getrandom::fill(&mut iv).map_err(|_| Failure::is(ErrorKind::Integrity("no random numbers")))?;
        let sealed = self.session.encrypt(version.handle, &mut iv, aad, plain)?;
        // A token that makes IVs of its own and appends them answers with more.
        let sealed = sealed.as_slice().try_into().map_err(|_| {
            Failure::setup("the token's AES-GCM answers with something else than ciphertext and tag")
        })?;
        Ok((iv, sealed))
    }
}

fn plain_key(bytes: &Zeroizing<Vec<u8>>) -> Outcome<PlainKey> {
    PlainKey::from_slice(bytes).ok_or(Failure::is(ErrorKind::Integrity("its data key is not 32 bytes long")))
}

fn invalid(failure: &Failure) -> Failure {
    Failure::Is(ErrorKind::CiphertextInvalid, verdict::code(failure))
}

#[cfg(test)]
#[path = "tests/work.rs"]
mod tests;
