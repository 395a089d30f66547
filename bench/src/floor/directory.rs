//! Directories of the floor. Invariant: an offset is the storage's own.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use sidecar::fs::{DirEntry, FsError, StorageSize};

use super::Done;

type Open = HashMap<u64, Arc<Mutex<OwnedFd>>>;

/// Open directories.
#[derive(Default)]
pub struct Streams {
    open: Mutex<(u64, Open)>,
}

impl Streams {
    pub fn open(&self, dir: &OwnedFd) -> Done<u64> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
        let (next, open) = &mut *self.lock();
        *next += 1;
        open.insert(*next, Arc::new(Mutex::new(fd)));
        Ok(*next)
    }

    pub fn read(
        &self,
        handle: u64,
        offset: u64,
        buffer: &mut [MaybeUninit<u8>],
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Done<()> {
        let stream = self.stream(handle)?;
        let fd = stream.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::fs::seek(&*fd, SeekFrom::Start(offset))?;
        let mut entries = RawDir::new(&*fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let (ino, kind, next) = (entry.ino(), entry.file_type(), entry.next_entry_cookie());
            if !add(&DirEntry { ino, kind, name: entry.file_name(), next }) {
                break;
            }
        }
        Ok(())
    }

    pub fn sync(&self, handle: u64) -> Done<()> {
        let stream = self.stream(handle)?;
        let fd = stream.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rustix::fs::fsync(&*fd)?)
    }

    pub fn close(&self, handle: u64) {
        self.lock().1.remove(&handle);
    }

    fn stream(&self, handle: u64) -> Done<Arc<Mutex<OwnedFd>>> {
        self.lock().1.get(&handle).cloned().ok_or(FsError::Refused(Errno::BADF))
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Open)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes of the storage.
pub fn size(root: &OwnedFd) -> Done<StorageSize> {
    let stat = rustix::fs::fstatvfs(root)?;
    Ok(StorageSize {
        block_size: stat.f_frsize as u32,
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        name_max: stat.f_namemax as u32,
    })
}
