//! The sweep: walks a volume and rewraps every key that an older root key version wrapped. A sidecar runs it in the
//! background, a Job on a volume that no pod mounts; both run this.
//!
//! Invariant: only key slots, group records and the marker are written, never a data block. A file counts under a version
//! when its slot is durable; what could not be read or rewrapped counts as unknown, never as nothing.

mod batch;
mod pace;
pub mod region_file;
mod report;
mod rewrapper;
mod walk;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tokio::runtime::Handle;

pub use pace::{Busy, Pace};
pub use report::{Counts, Progress};
pub use rewrapper::{Rewrapped, Rewrapper};

use crate::keys::{KeyError, RootKey};
use crate::volume::{Volume, VolumeError, names, open_dir};
use batch::Batch;

/// The most walks of a volume whose entries are being renamed all the time.
const MOST_WALKS: u32 = 16;

/// Why a sweep ended before its end.
#[derive(Debug, Error)]
pub enum SweepError {
    /// Somebody wanted it to end.
    #[error("go on with the sweep: it was cancelled")]
    Cancelled,
    /// The KMS refuses the root key.
    #[error("rewrap a key")]
    Refused(#[source] KeyError),
    /// The volume cannot be read at all.
    #[error("walk the volume")]
    Walk(#[source] std::io::Error),
    /// What was written cannot be made durable.
    #[error("make the rewrapped keys durable")]
    Sync(#[source] std::io::Error),
    /// The marker.
    #[error("rewrap the volume's marker")]
    Marker(#[source] region_file::RegionError),
    /// The volume's own directory.
    #[error("open the volume's own directory")]
    Volume(#[from] VolumeError),
}

/// Runs its second argument while nobody writes the file whose device and inode are the first.
pub type Undisturbed = Box<dyn Fn((u64, u64), &mut dyn FnMut()) + Send>;

/// What a sweep needs.
pub struct Sweep {
    /// The volume's root, opened before anything is written: its `syncfs` tells of every failed write.
    pub root: OwnedFd,
    /// Our directory in it.
    pub dir: OwnedFd,
    /// Names in the root that are not walked.
    pub storage_entries: Vec<String>,
    /// `syncfs` on this storage reaches the device.
    pub syncfs_is_durable: bool,
    /// The root key, with a credential that may rewrap.
    pub root_key: Arc<RootKey>,
    /// Runs the calls to the KMS.
    pub handle: Handle,
    /// The version to reach.
    pub target: String,
    /// How fast.
    pub pace: Pace,
    /// Counts the entries that got another name, as [`crate::fs::EncryptedFs::moves`] does; `None` where nobody else can
    /// (the lease is ours alone).
    pub renames: Option<Box<dyn Fn() -> u64 + Send>>,
    /// Runs work on a file while nobody else writes it; `None` where nobody else can.
    pub undisturbed: Option<Undisturbed>,
    /// Set to end the sweep.
    pub cancelled: Arc<AtomicBool>,
    /// Told how far the sweep is.
    pub progress: Progress,
}

impl Sweep {
    /// Sweeps `volume` at its own pace, with nobody else about.
    pub fn alone(
        volume: &Volume,
        root_key: Arc<RootKey>,
        handle: Handle,
        target: &str,
        pace: Pace,
        progress: Progress,
    ) -> Result<Self, SweepError> {
        Ok(Self {
            root: volume.root().try_clone_to_owned().map_err(SweepError::Walk)?,
            dir: volume.dir().try_clone_to_owned().map_err(SweepError::Walk)?,
            storage_entries: vec![],
            syncfs_is_durable: volume.backing().syncfs_is_durable(),
            root_key,
            handle,
            target: target.to_owned(),
            pace,
            renames: None,
            undisturbed: None,
            cancelled: Arc::default(),
            progress,
        })
    }

    /// Walks until a walk finds nothing old. Blocks; run it in a thread of its own.
    ///
    /// The result is also in the progress: complete only if this returns `Ok`.
    pub fn run(self) -> Result<(), SweepError> {
        let mut rewrapper = Rewrapper::new(
            Arc::clone(&self.root_key),
            self.handle.clone(),
            Arc::clone(&self.cancelled),
            &self.target,
        );
        let progress = self.progress.clone();
        rewrapper.on_trouble = Box::new(move |error| progress.set_trouble(error));
        self.progress.begin(&self.target);
        let mut batch = Batch::new(self, rewrapper)?;
        let mut settled = false;
        for _ in 0..MOST_WALKS {
            let renames = batch.renames();
            let found_old = batch.walk_all()?;
            // Alone, one walk sees every entry. Otherwise an entry may have moved from before us to behind us.
            settled = batch.is_alone() || (!found_old && batch.renames() == renames);
            if settled {
                break;
            }
        }
        batch.finish(settled)
    }
}

impl Batch {
    /// One walk: group records, files that were unlinked while open, files. Whether anything old was found.
    fn walk_all(&mut self) -> Result<bool, SweepError> {
        self.begin_walk();
        let dir = self.dir.try_clone().map_err(SweepError::Walk)?;
        if let Some(groups) = subdirectory(&dir, names::GROUPS)? {
            self.group_records(&groups)?;
        }
        if let Some(orphans) = subdirectory(&dir, names::ORPHANS)? {
            self.directory(&orphans, false, 0)?;
        }
        let root = self.root.try_clone().map_err(SweepError::Walk)?;
        self.directory(&root, true, 0)?;
        self.flush()?;
        Ok(self.found_old())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn subdirectory(dir: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, SweepError> {
    match open_dir(dir.as_fd(), name) {
        Ok(dir) => Ok(Some(dir)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(SweepError::Walk(error.into())),
    }
}

#[cfg(test)]
mod tests;
