//! Keys, their versions, and what may become of them.
//!
//! Source: "Key version states" of the Cloud KMS documentation. Invariant: a version that was destroyed has no material.

use serde::{Deserialize, Serialize};

use crate::material::{Material, is_ciphertext};
use crate::status::Status;

/// How long a version waits for its destruction.
const WAIT: i64 = 30 * 86_400;

/// A version's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Enabled,
    Disabled,
    DestroyScheduled,
    Destroyed,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::DestroyScheduled => "DESTROY_SCHEDULED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

/// A version.
#[derive(Clone, Serialize, Deserialize)]
pub struct Version {
    pub id: u64,
    pub state: State,
    pub created_at: i64,
    pub destroy_at: Option<i64>,
    pub destroyed_at: Option<i64>,
    material: Material,
}

/// A key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    pub name: String,
    pub created_at: i64,
    pub versions: Vec<Version>,
    pub primary: Option<u64>,
    /// Seconds between two rotations by the service.
    pub rotation: Option<i64>,
    pub next_rotation: Option<i64>,
}

impl Key {
    pub fn new(name: &str, now: i64) -> Self {
        let mut key = Self {
            name: name.to_owned(),
            created_at: now,
            versions: Vec::new(),
            primary: None,
            rotation: None,
            next_rotation: None,
        };
        key.primary = Some(key.add(now));
        key
    }

    /// A new version, which is not the primary one.
    pub fn add(&mut self, now: i64) -> u64 {
        let id = self.versions.len() as u64 + 1;
        let material = Material::new();
        let state = State::Enabled;
        self.versions.push(Version {
            id,
            state,
            created_at: now,
            destroy_at: None,
            destroyed_at: None,
            material,
        });
        id
    }

    pub fn version_name(&self, id: u64) -> String {
        format!("{}/cryptoKeyVersions/{id}", self.name)
    }

    pub fn version(&self, id: u64) -> Result<&Version, Status> {
        let found = self.versions.iter().find(|version| version.id == id);
        found.ok_or_else(|| Status::not_found(&format!("CryptoKeyVersion {}", self.version_name(id))))
    }

    fn version_mut(&mut self, id: u64) -> Result<&mut Version, Status> {
        let name = self.version_name(id);
        let found = self.versions.iter_mut().find(|version| version.id == id);
        found.ok_or_else(|| Status::not_found(&format!("CryptoKeyVersion {name}")))
    }

    /// What time alone does: versions are destroyed, the key is rotated.
    pub fn settle(&mut self, now: i64) {
        for version in &mut self.versions {
            if version.destroy_at.is_some_and(|at| at <= now) {
                version.destroyed_at = version.destroy_at.take();
                version.state = State::Destroyed;
                version.material.destroy();
            }
        }
        while let (Some(period), Some(next)) = (self.rotation, self.next_rotation)
            && next <= now
        {
            self.primary = Some(self.add(next));
            self.next_rotation = Some(next + period);
        }
    }

    pub fn set_primary(&mut self, id: u64) -> Result<(), Status> {
        let state = self.version(id)?.state;
        if state != State::Enabled {
            return Err(Status::version(&self.version_name(id), state));
        }
        self.primary = Some(id);
        Ok(())
    }

    /// Between enabled and disabled, and nowhere else.
    pub fn set_state(&mut self, id: u64, to: State) -> Result<(), Status> {
        let version = self.version_mut(id)?;
        if !matches!(to, State::Enabled | State::Disabled) {
            return Err(Status::invalid("state can be changed to ENABLED and DISABLED only."));
        }
        if !matches!(version.state, State::Enabled | State::Disabled) {
            return Err(Status::precondition(format!("the version is in state {}.", version.state.as_str())));
        }
        version.state = to;
        Ok(())
    }

    pub fn destroy(&mut self, id: u64, now: i64) -> Result<(), Status> {
        let version = self.version_mut(id)?;
        if !matches!(version.state, State::Enabled | State::Disabled) {
            return Err(Status::precondition(format!("the version is in state {}.", version.state.as_str())));
        }
        version.state = State::DestroyScheduled;
        version.destroy_at = Some(now + WAIT);
        Ok(())
    }

    /// Back, but not into use.
    pub fn restore(&mut self, id: u64) -> Result<(), Status> {
        let version = self.version_mut(id)?;
        if version.state != State::DestroyScheduled {
            return Err(Status::precondition(format!("the version is in state {}.", version.state.as_str())));
        }
        version.state = State::Disabled;
        version.destroy_at = None;
        Ok(())
    }

    /// Which version it was, and the ciphertext.
    pub fn encrypt(&self, id: Option<u64>, plaintext: &[u8], aad: &[u8]) -> Result<(u64, Vec<u8>), Status> {
        let id =
            id.or(self.primary).ok_or_else(|| Status::precondition("the key has no primary version."))?;
        let version = self.version(id)?;
        self.usable(version)?;
        let sealed = version.material.seal(plaintext, aad);
        Ok((id, sealed.ok_or_else(|| Status::version(&self.version_name(id), version.state))?))
    }

    /// Which version it was, and the plaintext.
    pub fn decrypt(&self, ciphertext: &[u8], aad: &[u8]) -> Result<(u64, Vec<u8>), Status> {
        let invalid = || Status::invalid("Decryption failed: the ciphertext is invalid.");
        if !is_ciphertext(ciphertext) {
            return Err(invalid());
        }
        let sealer = self.versions.iter().find(|version| version.material.sealed(ciphertext));
        let version = sealer.ok_or_else(|| {
            Status::invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey.")
        })?;
        self.usable(version)?;
        Ok((version.id, version.material.open(ciphertext, aad).ok_or_else(invalid)?))
    }

    fn usable(&self, version: &Version) -> Result<(), Status> {
        if version.state == State::Enabled {
            return Ok(());
        }
        Err(Status::version(&self.version_name(version.id), version.state))
    }
}
