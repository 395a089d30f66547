//! Attributes: read and changed.
//!
//! Invariant: reading attributes needs no key and no KMS.

use std::sync::Arc;

use rustix::fs::{AtFlags, Stat, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::error::FsError;
use super::inode::{Identity, Inode};
use super::measure::measure;
use super::types::{Attr, SetAttr, SetTime, Time};
use super::{EncryptedFs, OpenHow};

impl EncryptedFs {
    /// The attributes of an inode.
    pub fn getattr(&self, id: u64) -> Result<Attr, FsError> {
        let inode = self.inode(id)?;
        let fd = self.fd(&inode)?;
        let stat = rustix::fs::fstat(&fd)?;
        self.attr_of(&inode, &stat)
    }

    /// When the object was made, where the backing storage knows it.
    pub fn birth_time(&self, id: u64) -> Result<Option<Time>, FsError> {
        let fd = self.fd(&self.inode(id)?)?;
        let known = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
        let birth = Time { seconds: known.stx_btime.tv_sec, nanoseconds: known.stx_btime.tv_nsec };
        Ok((known.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(birth))
    }

    /// Changes attributes; the size first, because that is what can fail for want of a key.
    pub fn setattr(&self, id: u64, change: &SetAttr) -> Result<Attr, FsError> {
        self.check_writable()?;
        let inode = self.inode(id)?;
        let fd = self.fd(&inode)?;
        if let Some(size) = change.size {
            let how = OpenHow { write: true, ..OpenHow::default() };
            self.open_inode(&inode, how)?;
            let result = self.resize(&inode, size);
            self.release_inode(&inode);
            result?;
            if change.clear_privileges {
                self.clear_privileges(&inode)?;
            }
        }
        if change.uid.is_some() || change.gid.is_some() || change.mode.is_some() {
            self.set_owner(&inode, &fd, change.uid, change.gid, change.mode)?;
        }
        if (change.atime, change.mtime) != (SetTime::Keep, SetTime::Keep) {
            let times =
                Timestamps { last_access: timespec(change.atime), last_modification: timespec(change.mtime) };
            let mut result = Ok(());
            // Whoever rewraps the file's key restores its times.
            inode.undisturbed(|| result = rustix::fs::utimensat(&fd, c"", &times, AtFlags::EMPTY_PATH));
            result?;
        }
        let stat = rustix::fs::fstat(&fd)?;
        self.attr_of(&inode, &stat)
    }

    /// Runs `work` while nobody writes the object `(dev, ino)` or sets its times through this filesystem.
    pub fn undisturbed(&self, (dev, ino): (u64, u64), work: &mut dyn FnMut()) {
        match self.table.find(Identity { dev, ino }) {
            Some(inode) => inode.undisturbed(work),
            None => work(),
        }
    }

    /// The attributes that belong to the stat of an inode.
    pub(super) fn attr_of(&self, inode: &Arc<Inode>, stat: &Stat) -> Result<Attr, FsError> {
        let owner = self.owner(inode, stat)?;
        let size = match inode.kind {
            rustix::fs::FileType::RegularFile => self.size_of(inode, stat)?,
            _ => stat.st_size as u64,
        };
        let hidden_links = u32::from(inode.is_file() && inode.is_orphan());
        Ok(Attr {
            ino: stat.st_ino,
            size,
            blocks: stat.st_blocks as u64,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            mode: (stat.st_mode & libc::S_IFMT) | owner.mode,
            nlink: (stat.st_nlink as u32).saturating_sub(hidden_links),
            uid: owner.uid,
            gid: owner.gid,
            device: stat.st_rdev,
        })
    }

    /// The plaintext size of a regular file.
    fn size_of(&self, inode: &Arc<Inode>, stat: &Stat) -> Result<u64, FsError> {
        if let Some(size) = inode.size() {
            return Ok(size);
        }
        if stat.st_size as u64 <= self.options.geometry.header_len() {
            return Ok(inode.learn_size(0));
        }
        let anchor = self.fd(inode)?;
        let measured = match anchor.look() {
            Some(file) => measure(file, self.options.geometry, stat.st_size as u64)?,
            None => measure(&self.open_unnoticed(inode)?, self.options.geometry, stat.st_size as u64)?,
        };
        Ok(inode.learn_size(measured.size))
    }
}

fn time(seconds: i64, nanoseconds: u64) -> Time {
    Time { seconds, nanoseconds: nanoseconds as u32 }
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        SetTime::To(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}
