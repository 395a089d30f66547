//! The walk: every regular file below a directory, each hard link once.
//!
//! Invariant: no symlink is followed and no other filesystem entered; a directory that cannot be read makes its contents
//! unknown, not absent.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use contract::names::STORAGE_ENTRIES;
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::SweepError;
use super::batch::Batch;
use super::region_file::open_regular;
use crate::volume::{entries, names};

/// Directories in each other, at most; each takes a descriptor.
const DEEPEST: usize = 200;

impl Batch {
    /// Walks one directory and all below it.
    pub(super) fn directory(&mut self, dir: &OwnedFd, is_root: bool, depth: usize) -> Result<(), SweepError> {
        let list = match entries(dir) {
            Ok(list) => list,
            Err(error) if is_root => return Err(SweepError::Walk(error)),
            Err(_) => {
                self.unknown();
                return Ok(());
            }
        };
        for entry in list {
            if self.is_cancelled() {
                return Err(SweepError::Cancelled);
            }
            match entry {
                Ok((name, _)) if is_root && self.is_no_file(&name) => {}
                Ok((name, kind)) => self.entry(dir, &name, kind, depth)?,
                // The rest of the directory is not known.
                Err(_) => {
                    self.unknown();
                    break;
                }
            }
        }
        Ok(())
    }

    fn is_no_file(&self, name: &CStr) -> bool {
        let is = |entry: &str| entry.as_bytes() == name.to_bytes();
        is(names::DIR)
            || STORAGE_ENTRIES.iter().any(|entry| is(entry))
            || self.storage_entries.iter().any(|entry| is(entry))
    }

    fn entry(&mut self, dir: &OwnedFd, name: &CStr, kind: FileType, depth: usize) -> Result<(), SweepError> {
        match kind {
            FileType::RegularFile => self.file(dir, name),
            FileType::Directory => self.subdirectory(dir, name, depth),
            // Filesystems that tell no type.
            FileType::Unknown => match open_directory(dir, name) {
                Err(Errno::NOTDIR) => self.file(dir, name),
                _ => self.subdirectory(dir, name, depth),
            },
            // Symlinks, sockets, pipes and devices hold no data of ours.
            _ => Ok(()),
        }
    }

    fn subdirectory(&mut self, dir: &OwnedFd, name: &CStr, depth: usize) -> Result<(), SweepError> {
        if depth >= DEEPEST {
            self.unknown();
            return Ok(());
        }
        match open_directory(dir, name) {
            Ok(inner) => self.directory(&inner, false, depth + 1),
            // Gone, or replaced: whoever did that is seen by the next walk.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(()),
            Err(_) => {
                self.unknown();
                Ok(())
            }
        }
    }

    fn file(&mut self, dir: &OwnedFd, name: &CStr) -> Result<(), SweepError> {
        match open_regular(dir.as_fd(), name, true) {
            Ok(Some(file)) => self.visit(&file),
            Ok(None) => Ok(()),
            Err(_) => {
                self.unknown();
                Ok(())
            }
        }
    }
}

fn open_directory(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}
