//! Names to inodes.
//!
//! Invariant: a lookup that succeeds counts exactly one lookup, which the kernel gives back by `forget`.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::EncryptedFs;
use super::anchor::Anchor;
use super::error::FsError;
use super::inode::{Identity, Inode};
use super::types::{DirEntry, Entry, ROOT};

impl EncryptedFs {
    /// The object `name` in the directory `parent`.
    pub fn lookup(&self, parent: u64, name: &CStr) -> Result<Entry, FsError> {
        let parent = self.inode(parent)?;
        self.hidden.check_old(name, parent.id == ROOT)?;
        self.lookup_in(&parent, name)
    }

    /// The object that `entry` of the directory `parent` names.
    pub fn lookup_listed(&self, parent: u64, entry: &DirEntry<'_>) -> Result<Entry, FsError> {
        let parent = self.inode(parent)?;
        self.hidden.check_old(entry.name, parent.id == ROOT)?;
        let found = Anchor::find_as(&self.fd(&parent)?, entry.name, entry.kind)?;
        self.known(&parent, entry.name, found)
    }

    /// The kernel gives `count` lookups of an inode back.
    pub fn forget(&self, id: u64, count: u64) {
        self.table.forget(id, count);
    }

    /// Asks the kernel to give inodes back that nobody uses, if it knows more than `most`. From a thread that serves nothing.
    pub fn give_back(&self, most: usize) {
        let Some(cache) = self.connection.cache() else { return };
        let surplus = self.table.len().saturating_sub(most);
        if surplus == 0 {
            return;
        }
        let names: Vec<_> = self.table.collect(surplus, Inode::idle_name);
        for (parent, name) in names {
            // One that is gone already, or in use after all, is none of our business.
            let _ = cache.forget_name(parent, &name);
        }
    }

    pub(super) fn lookup_in(&self, parent: &Arc<Inode>, name: &CStr) -> Result<Entry, FsError> {
        let dir = self.fd(parent)?;
        self.known(parent, name, Anchor::find(&dir, name)?)
    }

    /// The entry of an object that was just opened or made as `name` in `parent`.
    pub(super) fn known(
        &self,
        parent: &Arc<Inode>,
        name: &CStr,
        (fd, stat): (Anchor, Stat),
    ) -> Result<Entry, FsError> {
        let identity = Identity::of(&stat);
        if identity.dev != self.device {
            // Another filesystem, and none of the volume's.
            return Err(FsError::Refused(Errno::XDEV));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let inode = self.table.looked_up(identity, kind, fd, parent, name);
        match self.attr_of(&inode, &stat) {
            Ok(attr) => Ok(Entry { id: inode.id, attr }),
            Err(error) => {
                self.table.forget(inode.id, 1);
                Err(error)
            }
        }
    }

    /// The inode behind a name, if the kernel knows it, and its stat. Counts nothing.
    pub(super) fn peek(
        &self,
        parent: &Arc<Inode>,
        name: &CStr,
    ) -> Result<(Option<Arc<Inode>>, Stat), FsError> {
        let dir = self.fd(parent)?;
        let stat = rustix::fs::statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((self.table.find(Identity::of(&stat)), stat))
    }
}
