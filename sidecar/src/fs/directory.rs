//! Reading directories.
//!
//! Invariant: hidden names are skipped; an offset is the storage's own, so that a stream can be read on by anybody who opens
//! the directory again.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno;

use super::error::FsError;
use super::types::{DirEntry, ROOT};
use super::{Counters, EncryptedFs};

/// Open directories.
#[derive(Default)]
pub struct Streams {
    open: Mutex<HashMap<u64, Arc<Stream>>>,
    next: AtomicU64,
}

struct Stream {
    fd: OwnedFd,
    in_root: bool,
    /// Held while the stream is read: its position is one.
    reading: Mutex<()>,
}

impl Streams {
    /// Closes them all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn get(&self, handle: u64) -> Result<Arc<Stream>, FsError> {
        self.lock().get(&handle).cloned().ok_or(FsError::Refused(Errno::BADF))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Stream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncryptedFs {
    /// Opens a directory; the handle is given back by [`Self::releasedir`].
    pub fn opendir(&self, id: u64) -> Result<u64, FsError> {
        let inode = self.inode(id)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = openat(self.fd(&inode)?, ".", flags, Mode::empty())?;
        let handle = self.streams.next.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { fd, in_root: id == ROOT, reading: Mutex::default() };
        self.streams.lock().insert(handle, Arc::new(stream));
        Ok(handle)
    }

    /// Gives the entries from `offset` on to `add`, `.` and `..` among them, until it returns `false` or they end.
    /// `buffer` is what they are read into: as large as what `add` can take.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        buffer: &mut [MaybeUninit<u8>],
        mut add: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let stream = self.streams.get(handle)?;
        let _reading = stream.reading.lock().unwrap_or_else(PoisonError::into_inner);
        seek(&stream.fd, SeekFrom::Start(offset))?;
        let mut entries = RawDir::new(&stream.fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if self.hidden.is_hidden(name, stream.in_root) {
                continue;
            }
            let entry =
                DirEntry { ino: entry.ino(), kind: entry.file_type(), name, next: entry.next_entry_cookie() };
            if !add(&entry) {
                break;
            }
        }
        Ok(())
    }

    /// Makes the entries of an open directory durable on the device.
    pub fn fsyncdir(&self, handle: u64) -> Result<(), FsError> {
        let stream = self.streams.get(handle)?;
        self.waiting(|| rustix::fs::fsync(&stream.fd))?;
        Counters::add(&self.counters.synced, 1);
        Ok(())
    }

    /// Gives an open directory back.
    pub fn releasedir(&self, handle: u64) {
        self.streams.lock().remove(&handle);
    }
}
