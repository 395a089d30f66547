//! Opening, closing and syncing files.
//!
//! Invariant: an open that succeeded had a key, if the file has any data; an inode that is open has one [`OpenFile`], and the
//! last release drops its key.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::content::header_of;
use super::error::FsError;
use super::inode::Inode;
use super::measure::measure;
use super::open_file::OpenFile;
use super::types::OpenHow;
use super::{Counters, EncryptedFs, proc_path};

impl EncryptedFs {
    /// Opens a regular file; the caller gives it back by [`Self::release`].
    pub fn open(&self, id: u64, how: OpenHow) -> Result<(), FsError> {
        let inode = self.inode(id)?;
        self.open_inode(&inode, how)?;
        self.after_open(&inode, how).inspect_err(|_| self.release_inode(&inode))
    }

    /// Gives an open file back.
    pub fn release(&self, id: u64) {
        if let Ok(inode) = self.inode(id) {
            self.release_inode(&inode);
        }
    }

    /// A number for a handle that was just opened: by it [`Self::fsync`] knows who was told of a failure. Each has its own.
    pub fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes a file durable on the device, for `handle` (of [`Self::new_handle`]); `data_only` as `fdatasync(2)`.
    pub fn fsync(&self, id: u64, handle: u64, data_only: bool) -> Result<(), FsError> {
        let inode = self.inode(id)?;
        let open = inode.opened();
        let file = match &open {
            Some(open) => open.for_reading(),
            None => self.file(&inode, false)?,
        };
        let mark = inode.durable.mark(inode.size().unwrap_or_default());
        let result = self.waiting(|| if data_only { file.sync_data() } else { file.sync_all() });
        if result.is_ok() {
            inode.durable.synced(mark);
        }
        match open {
            Some(open) => open.synced(handle, self.next_handle.load(Ordering::SeqCst), result)?,
            None => result?,
        }
        Counters::add(&self.counters.synced, 1);
        Ok(())
    }

    /// What is asked of an open besides a descriptor: the right to data, a key, and the cut to size 0.
    fn after_open(&self, inode: &Arc<Inode>, how: OpenHow) -> Result<(), FsError> {
        let open = opened(inode)?;
        self.gate.check(false)?;
        if how.truncate {
            self.resize(inode, 0)?;
            if how.clear_privileges {
                self.clear_privileges(inode)?;
            }
        }
        let file = open.for_reading();
        if self.known_size(inode, &file)? > 0 {
            self.key(inode, &open)?;
        } else {
            self.keys.permit()?;
            // A file with nothing in it may have no header. One that is cut or damaged is no empty file.
            let region = self.counted(inode, header_of(&file))?;
            if region.is_some_and(|region| region.preamble().has_seal()) {
                self.key(inode, &open)?;
            }
        }
        if !inode.cached.swap(true, Ordering::SeqCst) && !how.write {
            open.is_new_to_kernel();
        }
        Ok(())
    }

    /// Opens the backing file, and makes it ready to be written.
    pub(super) fn open_inode(&self, inode: &Arc<Inode>, how: OpenHow) -> Result<(), FsError> {
        match inode.kind {
            rustix::fs::FileType::RegularFile => {}
            rustix::fs::FileType::Directory => return Err(FsError::Refused(Errno::ISDIR)),
            _ => return Err(FsError::Refused(Errno::INVAL)),
        }
        let open = inode.open(|| Ok(OpenFile::new(self.file(inode, false)?, false)))?;
        if how.write || how.truncate {
            self.check_writable()
                .and_then(|()| self.make_writable(inode, &open))
                .inspect_err(|_| self.release_inode(inode))?;
        }
        Ok(())
    }

    pub(super) fn release_inode(&self, inode: &Arc<Inode>) {
        let Some(last) = inode.release() else { return };
        self.leave(inode, &last);
        drop(last);
        self.leave_orphans(inode);
    }

    /// The backing file, opened only if the descriptor that stands for it is not good enough.
    pub(super) fn file(&self, inode: &Arc<Inode>, write: bool) -> Result<Arc<File>, FsError> {
        self.fd(inode)?;
        match inode.file(write) {
            Some(file) => Ok(file),
            None => Ok(Arc::new(self.open_backing(inode, write)?)),
        }
    }

    pub(super) fn open_backing(&self, inode: &Arc<Inode>, write: bool) -> Result<File, FsError> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = self.fd(inode)?;
        Ok(rustix::fs::open(proc_path(&fd), flags, Mode::empty())?.into())
    }

    /// Opens the backing file for a look that is no access.
    pub(super) fn open_unnoticed(&self, inode: &Arc<Inode>) -> Result<File, FsError> {
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = self.fd(inode)?;
        match rustix::fs::open(proc_path(&fd), flags, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            // Only a file's owner may leave its access time alone.
            Err(Errno::PERM) => self.open_backing(inode, false),
            Err(error) => Err(error.into()),
        }
    }

    /// The first time that a file is opened for writing, what a crash left behind its end is cut off: only where the header
    /// says that the file is one of ours, because anything else has an end of its own.
    fn make_writable(&self, inode: &Arc<Inode>, open: &OpenFile) -> Result<(), FsError> {
        open.make_writable(|| {
            let file = self.file(inode, true)?;
            let physical = file.metadata()?.len();
            let measure = measure(&file, self.options.geometry, physical)?;
            if measure.physical < physical && self.check_header(&file).is_ok_and(|header| header.is_some()) {
                file.set_len(measure.physical)?;
            }
            inode.learn_size(measure.size);
            Ok(file)
        })?;
        Ok(())
    }

    /// The plaintext size, measured if it is not known.
    pub(super) fn known_size(&self, inode: &Inode, file: &File) -> Result<u64, FsError> {
        if let Some(size) = inode.size() {
            return Ok(size);
        }
        let physical = file.metadata()?.len();
        let measure = measure(file, self.options.geometry, physical)?;
        Ok(inode.learn_size(measure.size))
    }
}

/// Opens a new file by the descriptor that it was made with.
pub fn open_made(inode: &Arc<Inode>) -> Result<(), FsError> {
    let file = inode.file(true).ok_or(FsError::Refused(Errno::STALE))?;
    inode.open(|| Ok(OpenFile::new(file, true)))?;
    inode.cached.store(true, Ordering::Relaxed);
    Ok(())
}

/// The shared state of an open file.
pub fn opened(inode: &Inode) -> Result<Arc<OpenFile>, FsError> {
    inode.opened().ok_or(FsError::Refused(Errno::BADF))
}
