//! Versions of a root key in a token, and how they are ordered: one object for each, told apart by `CKA_ID`.
//!
//! `CKA_ID` is a counter (4 bytes), the seconds since 1970 (4 bytes) and 8 random bytes, numbers with the high byte first. The
//! greatest is current. Invariant: everybody who reads the same objects finds the same current one, also where two operators
//! rotated at once: then both made the same counter, and the rest of the bytes decides.

use std::time::{Duration, SystemTime};

use crate::error::ErrorKind;
use crate::key::{KeyState, KeyVersion, Origin};

/// The `CKA_ID` of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VersionId([u8; Self::LEN]);

impl VersionId {
    pub(super) const LEN: usize = 16;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The one that follows `last`; `None` once the counter is used up.
    pub(super) fn after(last: Option<Self>, now: SystemTime, random: [u8; 8]) -> Option<Self> {
        let counter = last.map_or(0, |last| last.counter()).checked_add(1)?;
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let mut id = [0; Self::LEN];
        id[..4].copy_from_slice(&counter.to_be_bytes());
        id[4..8].copy_from_slice(&seconds.to_be_bytes());
        id[8..].copy_from_slice(&random);
        Some(Self(id))
    }

    fn word(&self, at: usize) -> u32 {
        self.0[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
    }

    fn counter(&self) -> u32 {
        self.word(0)
    }

    /// Made by a rotation.
    pub(super) fn is_later(&self) -> bool {
        self.counter() > 1
    }

    /// By the clock of whoever made it. It orders nothing that the counter does not leave open.
    pub(super) fn made_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.word(4).into())
    }

    /// As it stands in headers, statuses and logs: in hex, as the vendors' tools show it.
    pub(super) fn name(&self) -> KeyVersion {
        KeyVersion(self.0.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// An object of the token, for the session that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle(pub(super) u64);

/// A secret key that has the label of the root key, as the token describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // attributes of the token, each on its own
pub(super) struct Found {
    pub(super) handle: Handle,
    /// `CKA_ID`
    pub(super) id: Vec<u8>,
    /// AES with 32 bytes, that the token never gives away.
    pub(super) fits: bool,
    /// `CKA_ENCRYPT`
    pub(super) encrypts: bool,
    /// `CKA_DECRYPT`
    pub(super) decrypts: bool,
    /// `CKA_LOCAL`: generated in the token.
    pub(super) local: bool,
}

/// A version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) handle: Handle,
    pub(super) id: VersionId,
    pub(super) encrypts: bool,
    pub(super) decrypts: bool,
    local: bool,
}

impl Version {
    /// `None`: not one that wraps keys here.
    pub(super) fn of(found: &Found) -> Option<Self> {
        let Found { handle, id, fits, encrypts, decrypts, local } = found;
        let id = VersionId::parse(id).filter(|_| *fits)?;
        Some(Self { handle: *handle, id, encrypts: *encrypts, decrypts: *decrypts, local: *local })
    }

    /// What the current version says of the root key. One that wraps what it does not unwrap would be a trap, so it counts as
    /// disabled.
    pub(super) fn state(&self) -> KeyState {
        match (self.encrypts, self.decrypts) {
            (true, true) => KeyState::Enabled,
            (false, true) => KeyState::Expired,
            (_, false) => KeyState::Disabled,
        }
    }

    /// Why nothing is wrapped with it.
    pub(super) fn refusal(&self) -> Option<ErrorKind> {
        match self.state() {
            KeyState::Enabled => None,
            KeyState::Expired => Some(ErrorKind::KeyExpired),
            _ => Some(ErrorKind::KeyDisabled),
        }
    }

    pub(super) fn origin(&self) -> Origin {
        if self.local { Origin::Generated } else { Origin::Imported }
    }
}
