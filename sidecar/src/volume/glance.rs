//! A glance at a volume that nobody may have initialised yet.
//!
//! Invariant: nothing is written, created or locked; what cannot be read is an error, and never an empty volume.

use std::os::fd::AsFd;
use std::path::Path;

use envelope::MarkerRegion;

use super::error::VolumeError;
use super::raw::{Contents, RawVolume, exists, open_dir};
use super::{marker, names, owner};

/// What lies in a volume.
#[derive(Debug)]
pub enum Glance {
    /// Nothing but entries of the storage itself.
    Empty,
    /// Our directory without a marker: somebody has begun to initialise the volume, and may be doing it now.
    Begun,
    /// A marker.
    Marked {
        /// It.
        region: Box<MarkerRegion>,
        /// Uid and gid that own the volume's own files.
        owner: (u32, u32),
    },
}

/// Looks into the volume at `path`. `storage_entries` are names in the root that belong to the storage itself.
pub fn glance(path: &Path, storage_entries: &[String]) -> Result<Glance, VolumeError> {
    let raw = RawVolume::open(path)?;
    match raw.survey(storage_entries)? {
        // A survey takes for empty what a crash left of an initialisation; that is too little to say that nobody wrote.
        Contents::Empty if exists(raw.root(), names::DIR).map_err(VolumeError::Read)? => Ok(Glance::Begun),
        Contents::Empty => Ok(Glance::Empty),
        Contents::Marker => {
            let dir = open_dir(raw.root(), names::DIR).map_err(|error| VolumeError::Read(error.into()))?;
            let region = Box::new(marker::read(dir.as_fd())?);
            Ok(Glance::Marked { region, owner: owner(dir.as_fd()).map_err(VolumeError::Read)? })
        }
    }
}
