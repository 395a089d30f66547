//! Opening a volume: is it ours, may we write it, does nobody else serve it, and does the root key open its marker?
//!
//! Invariant: a volume that holds anything and has no marker is left exactly as it was found.

mod backing;
mod error;
mod glance;
mod guard;
mod lease;
pub mod marker;
pub mod names;
mod raw;
mod terms;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::check_in::reasons;
use envelope::{Geometry, MarkerOptions, MarkerRegion, Ownership};
use kms::CallCtx;
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::io::Errno;

pub use backing::Backing;
pub use error::VolumeError;
pub use glance::{Glance, glance};
pub use guard::Guard;
pub use lease::{Lease, Purpose, Record};
pub use raw::{Contents, RawVolume, entries, exists, open_dir, open_file, open_path};
pub use terms::marker_report;

use crate::keys::RootKey;

/// What is wanted of a volume.
#[derive(Clone, Debug)]
pub struct Request {
    /// The raw volume's directory.
    pub path: PathBuf,
    /// Whether it will be written.
    pub purpose: Purpose,
    /// Who asks, for the lease's record: `pod shop/db-0`.
    pub holder: String,
    /// Names in the root that belong to the storage itself.
    pub storage_entries: Vec<String>,
    /// The id that the volume must have.
    pub pinned: Option<String>,
    /// Ownership of a volume that is initialised now.
    pub ownership: Ownership,
    /// The strict flag of a volume that is initialised now.
    pub strict: bool,
    /// The seal flag of a volume that is initialised now.
    pub seal: bool,
}

/// A volume that is ours, leased, with its marker.
#[derive(Debug)]
pub struct Volume {
    raw: RawVolume,
    dir: OwnedFd,
    /// The lease; the volume is ours as long as it is held.
    pub lease: Arc<Lease>,
    /// The marker as it was read or made.
    pub region: MarkerRegion,
    /// Facts that do not stop the service, as words of [`reasons`].
    pub warnings: Vec<&'static str>,
}

impl Volume {
    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.raw.root()
    }

    /// The directory of all that is ours.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What the storage can be trusted with.
    pub fn backing(&self) -> Backing {
        self.raw.backing()
    }

    /// Uid and gid that own the volume's own files.
    pub fn owner(&self) -> std::io::Result<(u32, u32)> {
        owner(self.dir())
    }
}

/// Uid and gid of the marker in `dir`.
fn owner(dir: BorrowedFd<'_>) -> std::io::Result<(u32, u32)> {
    let stat = rustix::fs::statat(dir, names::MARKER, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_uid, stat.st_gid))
}

/// Opens a volume, and initialises it if it is empty: the marker's key has been unwrapped by the KMS when this returns.
pub async fn open(request: &Request, root_key: &RootKey) -> Result<Volume, VolumeError> {
    let mut found = find_in_background(request.clone(), true).await?;
    if found.region.is_none() {
        let options = MarkerOptions {
            geometry: Geometry::new(1).expect("one page is a valid header"),
            ownership: request.ownership,
            strict: request.strict,
            seal: request.seal,
        };
        found.region = Some(marker::create(found.dir.as_fd(), root_key, options).await?);
    }
    let volume = found.finish(request)?;
    marker::unlock(&volume.region, root_key, &CallCtx::new().fresh()).await?;
    if request.purpose == Purpose::Write {
        remove_orphans(volume.dir());
    }
    Ok(volume)
}

/// Opens a volume for work that needs no key. It must have been initialised.
pub async fn open_without_key(request: &Request) -> Result<Volume, VolumeError> {
    find_in_background(request.clone(), false).await?.finish(request)
}

/// Reads a volume's marker and changes nothing, takes no lease.
pub fn peek(path: &Path) -> Result<MarkerRegion, VolumeError> {
    let raw = RawVolume::open(path)?;
    match raw.survey(&[])? {
        Contents::Empty => Err(VolumeError::NeverInitialised),
        Contents::Marker => {
            let dir = open_dir(raw.root(), names::DIR).map_err(|error| VolumeError::Read(error.into()))?;
            marker::read(dir.as_fd())
        }
    }
}

struct Found {
    raw: RawVolume,
    dir: OwnedFd,
    lease: Lease,
    region: Option<MarkerRegion>,
}

async fn find_in_background(request: Request, may_initialise: bool) -> Result<Found, VolumeError> {
    let found = tokio::task::spawn_blocking(move || find(&request, may_initialise)).await;
    found.unwrap_or_else(|_| {
        Err(VolumeError::Read(std::io::Error::other("the look at the volume was cut short")))
    })
}

fn find(request: &Request, may_initialise: bool) -> Result<Found, VolumeError> {
    let raw = RawVolume::open(&request.path)?;
    let writes = request.purpose == Purpose::Write;
    let contents = raw.survey(&request.storage_entries)?;
    if writes {
        raw.check_writable()?;
    }
    if contents == Contents::Empty {
        if let Some(pinned) = &request.pinned {
            return Err(VolumeError::Vanished { pinned: pinned.clone() });
        }
        if !writes || !may_initialise {
            return Err(VolumeError::NeverInitialised);
        }
        make_dir(raw.root(), names::DIR)?;
    }
    let dir = open_dir(raw.root(), names::DIR).map_err(|error| VolumeError::Read(error.into()))?;
    let shared = !raw.backing().is_local();
    let lease = Lease::acquire(dir.as_fd(), &request.holder, request.purpose, shared)?;
    // Another one may have initialised it before the lease was ours.
    let region = match raw.survey(&request.storage_entries)? {
        Contents::Marker => Some(marker::read(dir.as_fd())?),
        Contents::Empty => None,
    };
    if region.is_none() && !may_initialise {
        return Err(VolumeError::NeverInitialised);
    }
    Ok(Found { raw, dir, lease, region })
}

impl Found {
    fn finish(self, request: &Request) -> Result<Volume, VolumeError> {
        let region = self.region.expect("the caller saw to the marker");
        let id = region.marker().volume_id();
        if let Some(pinned) = &request.pinned
            && !pinned.eq_ignore_ascii_case(&id.to_string())
        {
            return Err(VolumeError::WrongVolume { found: id, pinned: pinned.clone() });
        }
        let writes = request.purpose == Purpose::Write;
        if writes {
            region.marker().check_writable().map_err(VolumeError::Marker)?;
            for name in [names::GROUPS, names::ORPHANS] {
                make_dir(self.dir.as_fd(), name)?;
            }
        }
        let native = region.marker().options().ownership == Ownership::Native;
        if native && writes && !rustix::process::geteuid().is_root() {
            return Err(VolumeError::NeedsRoot);
        }
        let torn = !self.raw.backing().pages_are_whole();
        let warnings = if torn { vec![reasons::TORN_WRITES_POSSIBLE] } else { vec![] };
        Ok(Volume { raw: self.raw, dir: self.dir, lease: Arc::new(self.lease), region, warnings })
    }
}

fn make_dir(parent: BorrowedFd<'_>, name: &str) -> Result<(), VolumeError> {
    let own = |error: Errno| VolumeError::Own { what: "directory", source: error.into() };
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => rustix::fs::fsync(parent).map_err(own),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(own(error)),
    }
}

/// Removes what was unlinked while open, from the directory of all that is ours: nobody has a file open when a volume is
/// opened.
pub fn remove_orphans(dir: BorrowedFd<'_>) {
    let removed = (|| {
        let orphans = open_dir(dir, names::ORPHANS)?;
        let mut removed = 0_u64;
        for entry in entries(&orphans)? {
            let (name, _) = entry?;
            unlinkat(&orphans, name.as_c_str(), AtFlags::empty())?;
            removed += 1;
        }
        std::io::Result::Ok(removed)
    })();
    match removed {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed files that were unlinked while open"),
        Err(error) => tracing::warn!(%error, "cannot remove all files that were unlinked while open"),
    }
}

#[cfg(test)]
mod tests;
