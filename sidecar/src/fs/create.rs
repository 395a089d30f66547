//! Making objects.
//!
//! Invariant: an object gets its owner and mode before anybody else can see it through this filesystem, because the kernel
//! holds the directory while it is made; one that cannot get them, or cannot be served, is removed again.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, mknodat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::anchor::Anchor;
use super::error::FsError;
use super::inode::Inode;
use super::open::open_made;
use super::owner::GivenMode;
use super::types::{Caller, Entry, OpenHow, ROOT};
use super::{EncryptedFs, proc_path};

/// How a new object's mode comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMode {
    /// What the application asked for: permission bits.
    pub mode: u32,
    /// The bits that the application's umask takes away; 0 if the kernel has done that.
    pub umask: u32,
}

impl EncryptedFs {
    /// Makes a regular file and opens it for reading and writing. With `exclusive` it is an error if it is there already;
    /// else that one is opened as `how` says.
    pub fn create(
        &self,
        parent: u64,
        name: &CStr,
        mode: NewMode,
        caller: Caller,
        exclusive: bool,
        how: OpenHow,
    ) -> Result<Entry, FsError> {
        let parent = self.new_name(parent, name)?;
        self.gate.check(false)?;
        self.keys.permit()?;
        let dir = self.fd(&parent)?;
        let made = self.make_file(&parent, &dir, name, mode, caller);
        if let Err(FsError::Backing(Errno::EXIST)) = made
            && !exclusive
        {
            let entry = self.lookup_in(&parent, name)?;
            return match self.open(entry.id, how) {
                Ok(()) => Ok(entry),
                Err(error) => {
                    self.forget(entry.id, 1);
                    Err(error)
                }
            };
        }
        let file = made?;
        let opened = self.open_new(&parent, name, file);
        undo_on_error(opened, || unlinkat(&dir, name, AtFlags::empty()))
    }

    /// The entry of a file that was just made, open.
    fn open_new(&self, parent: &Arc<Inode>, name: &CStr, file: File) -> Result<Entry, FsError> {
        let stat = rustix::fs::fstat(&file)?;
        let entry = self.known(parent, name, (Anchor::made(file), stat))?;
        let inode = self.inode(entry.id)?;
        inode.learn_size(0);
        inode.durable.is_new();
        open_made(&inode).inspect_err(|_| self.forget(entry.id, 1))?;
        Ok(entry)
    }

    /// Makes a directory.
    pub fn mkdir(&self, parent: u64, name: &CStr, mode: NewMode, caller: Caller) -> Result<Entry, FsError> {
        let parent = self.new_name(parent, name)?;
        let dir = self.fd(&parent)?;
        let mode = self.applied(&dir, mode)?;
        mkdirat(&dir, name, self.backing_mode(mode.bits(), 0o700))?;
        let made = (|| {
            let (fd, _) = Anchor::find(&dir, name)?;
            self.give(&parent, &fd, true, caller, mode)?;
            let stat = rustix::fs::fstat(&fd)?;
            self.known(&parent, name, (fd, stat))
        })();
        undo_on_error(made, || unlinkat(&dir, name, AtFlags::REMOVEDIR))
    }

    /// Makes a regular file, a fifo or a socket (`mode` holds the type). Devices (`device` is their number) are refused,
    /// unless [`EncryptedFs::allow_devices`] was called and the backing storage allows them.
    pub fn mknod(
        &self,
        parent: u64,
        name: &CStr,
        mode: NewMode,
        device: u64,
        caller: Caller,
    ) -> Result<Entry, FsError> {
        let parent = self.new_name(parent, name)?;
        let dir = self.fd(&parent)?;
        let kind = FileType::from_raw_mode(mode.mode);
        match kind {
            FileType::RegularFile | FileType::Unknown => {
                self.make_file(&parent, &dir, name, mode, caller)?;
                let entry = self.lookup_in(&parent, name);
                return undo_on_error(entry, || unlinkat(&dir, name, AtFlags::empty()));
            }
            FileType::Fifo | FileType::Socket => {}
            FileType::CharacterDevice | FileType::BlockDevice if self.devices.load(Ordering::Relaxed) => {}
            _ => return Err(FsError::Refused(Errno::PERM)),
        }
        let permissions = self.applied(&dir, mode)?;
        mknodat(&dir, name, kind, Mode::from_raw_mode(permissions.bits()), device)?;

        self.own_special(&parent, &dir, name, caller, Some(permissions))
    }

    /// Makes a symbolic link with the text `target`.
    pub fn symlink(&self, parent: u64, name: &CStr, target: &CStr, caller: Caller) -> Result<Entry, FsError> {
        let parent = self.new_name(parent, name)?;
        let dir = self.fd(&parent)?;
        symlinkat(target, &dir, name)?;
        self.own_special(&parent, &dir, name, caller, None)
    }

    /// Gives the inode `id` another name.
    pub fn link(&self, id: u64, parent: u64, name: &CStr) -> Result<Entry, FsError> {
        let parent = self.new_name(parent, name)?;
        let inode = self.inode(id)?;
        let fd = self.fd(&inode)?;
        let dir = self.fd(&parent)?;
        let (old, flags) = (proc_path(&fd), AtFlags::SYMLINK_FOLLOW);
        // The older name may go: to a walk that has not met it yet, that is a move.
        self.moving(|| rustix::fs::linkat(rustix::fs::CWD, old, &dir, name, flags))?;
        let entry = self.known(&parent, name, Anchor::find(&dir, name)?)?;
        // The older name may go, and then this is the one by which the kernel can give the inode back.
        inode.moved_to(&parent, name);
        Ok(entry)
    }

    /// The text of a symbolic link.
    pub fn readlink(&self, id: u64) -> Result<Vec<u8>, FsError> {
        let inode = self.inode(id)?;
        if inode.kind != FileType::Symlink {
            return Err(FsError::Refused(Errno::INVAL));
        }
        let fd = self.fd(&inode)?;
        Ok(rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes())
    }

    /// The directory in which a new name is made.
    pub(super) fn new_name(&self, parent: u64, name: &CStr) -> Result<Arc<Inode>, FsError> {
        self.check_writable()?;
        self.hidden.check_new(name, parent == ROOT)?;
        self.inode(parent)
    }

    fn make_file(
        &self,
        parent: &Arc<Inode>,
        dir: &Anchor,
        name: &CStr,
        mode: NewMode,
        caller: Caller,
    ) -> Result<File, FsError> {
        let mode = self.applied(dir, mode)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, self.backing_mode(mode.bits(), 0o600))?;
        let given = self.give(parent, &file, false, caller, mode).map(|()| file);
        Ok(undo_on_error(given, || unlinkat(dir, name, AtFlags::empty()))?.into())
    }

    /// The mode with the umask applied, unless the directory's default ACL takes its place.
    fn applied(&self, dir: &Anchor, mode: NewMode) -> Result<GivenMode, FsError> {
        let asked = mode.mode & 0o7777;
        if self.native() && has_default_acl(dir)? {
            return Ok(GivenMode::Inherited(asked));
        }
        Ok(GivenMode::Exact(asked & !mode.umask))
    }

    /// The mode on the backing storage: the file's own, or `ours`.
    fn backing_mode(&self, mode: u32, ours: u32) -> Mode {
        Mode::from_raw_mode(if self.native() { mode } else { ours })
    }

    /// Gives an owner to what can carry no attribute of ours; symbolic links have no mode.
    fn own_special(
        &self,
        parent: &Arc<Inode>,
        dir: &Anchor,
        name: &CStr,
        caller: Caller,
        mode: Option<GivenMode>,
    ) -> Result<Entry, FsError> {
        let made = (|| {
            let (fd, _) = Anchor::find(dir, name)?;
            match mode {
                _ if !self.native() => {}
                Some(mode) => self.give(parent, &fd, false, caller, mode)?,
                None => self.give_link(parent, &fd, caller)?,
            }
            let stat = rustix::fs::fstat(&fd)?;
            self.known(parent, name, (fd, stat))
        })();
        undo_on_error(made, || unlinkat(dir, name, AtFlags::empty()))
    }
}

fn undo_on_error<T>(
    result: Result<T, FsError>,
    undo: impl FnOnce() -> Result<(), Errno>,
) -> Result<T, FsError> {
    result.inspect_err(|_| {
        let _ = undo();
    })
}

fn has_default_acl(dir: impl AsFd) -> Result<bool, FsError> {
    let mut nothing = [0_u8; 0];
    match rustix::fs::getxattr(proc_path(dir), c"system.posix_acl_default", &mut nothing[..]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
