//! Descriptors that stand for objects.
//!
//! Invariant: an anchor is the object that its stat describes; following a name opens nothing but directories, regular files and mere
//! references, leaves neither the directory nor the filesystem, and changes no access time.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_setfl, fstat, openat2, statat};
use rustix::io::Errno;

use super::inode::Inode;

/// What an anchor can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// To name the object.
    Reference,
    /// To look into a file, which is no access that anybody notices.
    Look,
    /// To read a file.
    Read,
    /// To read and write it.
    Write,
}

/// See the module.
#[derive(Clone)]
pub struct Anchor {
    file: Arc<File>,
    access: Access,
}

impl AsFd for Anchor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Anchor {
    /// A descriptor that was opened with `O_PATH`.
    pub fn reference(fd: OwnedFd) -> Self {
        Self { file: Arc::new(fd.into()), access: Access::Reference }
    }

    /// A file that was made, open for reading and writing.
    pub fn made(file: File) -> Self {
        Self { file: Arc::new(file), access: Access::Write }
    }

    /// The object `name` in `dir`, and its stat.
    pub fn find(dir: impl AsFd, name: &CStr) -> Result<(Self, Stat), Errno> {
        let kind = FileType::from_raw_mode(statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        Self::find_as(dir, name, kind)
    }

    /// [`Self::find`], of an object that is said to be of this kind. Only what is said to be a regular file is opened: to open
    /// a device would have effects.
    pub fn find_as(dir: impl AsFd, name: &CStr, kind: FileType) -> Result<(Self, Stat), Errno> {
        if kind == FileType::RegularFile
            && let Ok(fd) = open(&dir, name, LOOK)
        {
            let stat = fstat(&fd)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                return Ok((Self { file: Arc::new(fd.into()), access: Access::Look }, stat));
            }
        }
        let fd = open(&dir, name, OFlags::PATH)?;
        let stat = fstat(&fd)?;
        Ok((Self::reference(fd), stat))
    }

    /// The file, to look into.
    pub fn look(&self) -> Option<&File> {
        (self.access >= Access::Look).then_some(&self.file)
    }

    /// The file, for reading or for reading and writing, if the anchor is good for that. What is read from now on is an access.
    pub fn file(&mut self, write: bool) -> Option<Arc<File>> {
        if self.access == Access::Look && !write && fcntl_setfl(&self.file, OFlags::NONBLOCK).is_ok() {
            self.access = Access::Read;
        }
        let needed = if write { Access::Write } else { Access::Read };
        (self.access >= needed).then(|| Arc::clone(&self.file))
    }
}

/// How a file is opened that is only looked into. Waits for nobody.
const LOOK: OFlags = OFlags::RDONLY.union(OFlags::NOATIME).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open(dir: impl AsFd, name: &CStr, how: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(dir, name, how | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The inodes that hold a descriptor: at most so many, and the ones used least recently give theirs up (second chance).
pub struct Anchors {
    limit: usize,
    queue: Mutex<VecDeque<Weak<Inode>>>,
}

impl Anchors {
    /// At most `limit` descriptors, pinned ones aside.
    pub fn new(limit: usize) -> Self {
        Self { limit, queue: Mutex::default() }
    }

    /// `inode` holds a descriptor from now on.
    pub fn added(&self, inode: &Arc<Inode>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Arc::downgrade(inode));
        // Two rounds at most: the first takes the marks of use away.
        let mut tries = 2 * queue.len();
        while queue.len() > self.limit && tries > 0 {
            tries -= 1;
            let Some(oldest) = queue.pop_front() else { break };
            if let Some(inode) = oldest.upgrade()
                && !inode.give_up_fd()
            {
                queue.push_back(oldest);
            }
        }
    }
}
