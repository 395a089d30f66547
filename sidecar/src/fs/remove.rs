//! Removing names.
//!
//! Invariant: a file whose last name is removed while it is open lives on among the orphans until its last handle is
//! released, so that its contents stay reachable for a process that takes the mount over. An inode leaves the table's objects
//! only once the storage says that the object has no name left. A name of ours is never removed.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Stat, linkat, renameat, unlinkat};
use rustix::io::Errno;

use super::EncryptedFs;
use super::anchor::Anchor;
use super::error::FsError;
use super::inode::Inode;
use super::types::ROOT;

impl EncryptedFs {
    /// Removes the name of something that is no directory.
    pub fn unlink(&self, parent: u64, name: &CStr) -> Result<(), FsError> {
        let parent = self.old_name(parent, name)?;
        let dir = self.fd(&parent)?;
        let (inode, stat) = self.peek(&parent, name)?;
        let Some(inode) = inode else { return Ok(unlinkat(&dir, name, AtFlags::empty())?) };
        if inode.is_dir() {
            return Err(FsError::Refused(Errno::ISDIR));
        }
        // What loses its name keeps its descriptor.
        self.fd(&inode)?;
        if self.orphan(&inode, &stat, &dir, name)? {
            inode.lost_name(&parent, name);
            return Ok(());
        }
        unlinkat(&dir, name, AtFlags::empty())?;
        inode.lost_name(&parent, name);
        self.gone_without_names(&inode);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: u64, name: &CStr) -> Result<(), FsError> {
        let parent = self.old_name(parent, name)?;
        let dir = self.fd(&parent)?;
        let (inode, _) = self.peek(&parent, name)?;
        if let Some(inode) = &inode {
            self.fd(inode)?;
        }
        unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
        if let Some(inode) = inode {
            inode.lost_name(&parent, name);
            self.table.object_gone(&inode);
        }
        Ok(())
    }

    /// The directory from which a name is taken.
    pub(super) fn old_name(&self, parent: u64, name: &CStr) -> Result<Arc<Inode>, FsError> {
        self.check_writable()?;
        self.hidden.check_old(name, parent == ROOT)?;
        self.inode(parent)
    }

    /// Moves an open file to the orphans; `false` if it is not open, an orphan already, or keeps another name.
    fn orphan(&self, inode: &Arc<Inode>, stat: &Stat, dir: &Anchor, name: &CStr) -> Result<bool, FsError> {
        let Some((orphans, orphan)) = self.orphan_name(inode, stat) else { return Ok(false) };
        // Its number is random, so that there is nothing to replace; and not all storage can be asked not to.
        self.moving(|| renameat(dir, name, orphans, &*orphan))?;
        self.now_orphan(inode, &orphan);
        Ok(true)
    }

    /// Gives an open file a name among the orphans besides the one that is about to be replaced.
    pub(super) fn save_orphan(
        &self,
        inode: &Inode,
        stat: &Stat,
        dir: &Anchor,
        name: &CStr,
    ) -> Result<Option<CString>, FsError> {
        let Some((orphans, orphan)) = self.orphan_name(inode, stat) else { return Ok(None) };
        linkat(dir, name, orphans, &*orphan, AtFlags::empty())?;
        Ok(Some(orphan))
    }

    /// The replacement did not come about.
    pub(super) fn drop_orphan(&self, orphan: &CStr) {
        if let Some(orphans) = &self.orphans {
            let _ = unlinkat(orphans, orphan, AtFlags::empty());
        }
    }

    /// Notes that an inode is among the orphans; if it was closed meanwhile it goes at once.
    pub(super) fn now_orphan(&self, inode: &Arc<Inode>, orphan: &CStr) {
        inode.orphaned(orphan.to_owned());
        if inode.opened().is_none() {
            self.leave_orphans(inode);
        }
    }

    /// Nobody has the inode open any more: among the orphans it needs no name.
    pub(super) fn leave_orphans(&self, inode: &Arc<Inode>) {
        let Some(orphan) = inode.leaves_orphans() else { return };
        // What cannot be removed now is removed when the volume is opened next.
        self.drop_orphan(&orphan);
        self.gone_without_names(inode);
    }

    /// An object without a name is deleted when its last descriptor is closed, and its number may come back as another one.
    pub(super) fn gone_without_names(&self, inode: &Arc<Inode>) {
        let links = self.fd(inode).and_then(|fd| Ok(rustix::fs::fstat(&fd)?.st_nlink));
        if links.is_ok_and(|links| links > 0) {
            return;
        }
        self.table.object_gone(inode);
    }

    /// The name among the orphans for an open file that is about to lose its last name.
    fn orphan_name(&self, inode: &Inode, stat: &Stat) -> Option<(&OwnedFd, CString)> {
        let orphans = self.orphans.as_ref()?;
        if !inode.is_file() || stat.st_nlink > 1 || inode.opened().is_none() || inode.is_orphan() {
            return None;
        }
        let number = self.next_orphan.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("{number:016x}")).ok().map(|name| (orphans, name))
    }
}
