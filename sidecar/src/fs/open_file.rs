//! What all handles of one open file share: its backing descriptor, its key, the ranges that are being written, and the
//! last sync that failed.
//!
//! Invariant: one for each open inode, whatever names and handles lead to it. A sync that failed is told to each handle that
//! there was by then, although the storage tells the descriptor that they share only once.

use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

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
    failed: Mutex<Option<FailedSync>>,
    new_to_kernel: AtomicBool,
}

/// A sync that failed.
struct FailedSync {
    errno: Errno,
    /// Handles with a smaller number were there.
    before: u64,
    /// Handles that know.
    told: HashSet<u64>,
}

#[derive(Clone)]
struct Backing {
    file: Arc<File>,
    writable: bool,
}

impl OpenFile {
    /// A file that was opened, for writing too or not.
    pub fn new(file: Arc<File>, writable: bool) -> Self {
        let backing = Mutex::new(Backing { file, writable });
        Self {
            backing,
            key: KeyCell::default(),
            ranges: Ranges::default(),
            failed: Mutex::default(),
            new_to_kernel: AtomicBool::new(false),
        }
    }

    /// It is being opened for reading, and the kernel has nothing of the file yet.
    pub fn is_new_to_kernel(&self) {
        self.new_to_kernel.store(true, Ordering::SeqCst);
    }

    /// Whether that is so, told once.
    pub fn take_new_to_kernel(&self) -> bool {
        self.new_to_kernel.swap(false, Ordering::SeqCst)
    }

    /// What a sync through `handle` comes to, of which the storage says `result`; `next` is the number of the next handle.
    pub fn synced(&self, handle: u64, next: u64, result: std::io::Result<()>) -> Result<(), FsError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = result {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            *failed = Some(FailedSync { errno, before: next, told: HashSet::from([handle]) });
            return Err(errno.into());
        }
        let Some(failed) = &mut *failed else { return Ok(()) };
        let concerns = handle < failed.before && failed.told.insert(handle);
        if concerns { Err(failed.errno.into()) } else { Ok(()) }
    }

    /// Whether a sync of it failed.
    pub fn has_failed_sync(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
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
        reopen: impl FnOnce() -> Result<Arc<File>, FsError>,
    ) -> Result<(Arc<File>, bool), FsError> {
        let mut backing = self.backing.lock().unwrap_or_else(PoisonError::into_inner);
        if backing.writable {
            return Ok((Arc::clone(&backing.file), false));
        }
        *backing = Backing { file: reopen()?, writable: true };
        Ok((Arc::clone(&backing.file), true))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failed_sync_is_told_to_each_handle_that_there_was_once() {
        let open = OpenFile::new(Arc::new(tempfile::tempfile().unwrap()), true);
        let failure = || Err(std::io::Error::from_raw_os_error(libc::EIO));
        let errno = |result: Result<(), FsError>| result.err().map(|error| error.errno());
        assert_eq!(errno(open.synced(1, 3, Ok(()))), None);
        assert_eq!(errno(open.synced(1, 3, failure())), Some(libc::EIO));
        assert_eq!(errno(open.synced(1, 3, Ok(()))), None, "it knows");
        assert_eq!(
            errno(open.synced(2, 3, Ok(()))),
            Some(libc::EIO),
            "the storage has told it to nobody else"
        );
        assert_eq!(errno(open.synced(2, 4, Ok(()))), None);
        assert_eq!(errno(open.synced(3, 4, Ok(()))), None, "opened afterwards");
        assert_eq!(errno(open.synced(3, 4, failure())), Some(libc::EIO));
        assert_eq!(errno(open.synced(1, 4, Ok(()))), Some(libc::EIO), "another failure");
    }
}
