//! What all handles of one open file share: its backing descriptor, its key, the ranges that are being written.
//!
//! Invariant: one for each open inode, whatever names and handles lead to it.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::FsError;
use super::key_cell::KeyCell;
use super::ranges::Ranges;

/// See the module.
pub struct OpenFile {
    backing: Mutex<Backing>,
    /// The key.
    pub key: KeyCell,
    /// Ranges of blocks that are being written.
    pub ranges: Ranges,
}

#[derive(Clone)]
struct Backing {
    file: Arc<File>,
    writable: bool,
}

impl OpenFile {
    /// A file that was opened, for writing too or not.
    pub fn new(file: File, writable: bool) -> Self {
        let backing = Mutex::new(Backing { file: Arc::new(file), writable });
        Self { backing, key: KeyCell::default(), ranges: Ranges::default() }
    }

    /// The backing file, for reading.
    pub fn for_reading(&self) -> Arc<File> {
        Arc::clone(&self.backing.lock().unwrap_or_else(PoisonError::into_inner).file)
    }

    /// The backing file, for writing, once it was opened so.
    pub fn for_writing(&self) -> Option<Arc<File>> {
        let backing = self.backing.lock().unwrap_or_else(PoisonError::into_inner);
        backing.writable.then(|| Arc::clone(&backing.file))
    }

    /// The backing file, for writing; `reopen` opens it if that was not done before, and says whether it is the first time.
    pub fn make_writable(
        &self,
        reopen: impl FnOnce() -> Result<File, FsError>,
    ) -> Result<(Arc<File>, bool), FsError> {
        let mut backing = self.backing.lock().unwrap_or_else(PoisonError::into_inner);
        if backing.writable {
            return Ok((Arc::clone(&backing.file), false));
        }
        *backing = Backing { file: Arc::new(reopen()?), writable: true };
        Ok((Arc::clone(&backing.file), true))
    }
}
