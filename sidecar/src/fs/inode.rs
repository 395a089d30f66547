//! One file, directory or other object that the kernel knows.
//!
//! Invariant: an inode is the object (dev, ino) that it was made for, whatever happens to names: a descriptor that is opened
//! anew is compared with it. An inode that is open, or has lost its last known name, keeps its descriptor.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::anchor::{Anchor, Anchors};
use super::durable::Durable;
use super::error::FsError;
use super::open_file::OpenFile;
use super::seal::SealState;
use super::types::ROOT;

/// The size is not known.
const UNKNOWN: u64 = u64::MAX;
/// How often a name is followed that changes under us.
const TRIES: u32 = 8;

/// What [`FileType`] and identity a stat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device of the filesystem.
    pub dev: u64,
    /// Inode number in it.
    pub ino: u64,
}

impl Identity {
    /// The identity in a stat.
    pub fn of(stat: &rustix::fs::Stat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// See the module.
pub struct Inode {
    /// The identifier that the kernel uses.
    pub id: u64,
    /// The object.
    pub identity: Identity,
    /// Its type, which never changes.
    pub kind: FileType,
    /// The kernel may have pages of it.
    pub cached: AtomicBool,
    /// What of it is known to be on the device.
    pub durable: Durable,
    /// Its seal.
    pub seal: SealState,
    size: AtomicU64,
    /// Counts changes to a smaller size.
    cuts: AtomicU64,
    used: AtomicBool,
    /// Handles, so that nobody needs the lock to know.
    handles: AtomicU32,
    place: Mutex<Place>,
    open: Mutex<Option<Arc<OpenFile>>>,
}

/// Where an inode is, and the descriptor that stands for it.
struct Place {
    /// A directory that holds it under this name; `None` for the root, and where no name is known any more.
    name: Option<(Arc<Inode>, CString)>,
    fd: Option<Anchor>,
    /// In `.cofferdam/orphans`: its last name was removed while it was open.
    orphan: Option<CString>,
    /// The descriptor must stay.
    pinned: bool,
}

impl Inode {
    /// An inode whose descriptor is `fd`; `name` is `None` for the root.
    pub fn new(
        id: u64,
        identity: Identity,
        kind: FileType,
        fd: Option<Anchor>,
        name: Option<(Arc<Inode>, CString)>,
    ) -> Self {
        let pinned = name.is_none();
        Self {
            id,
            identity,
            kind,
            cached: AtomicBool::new(false),
            durable: Durable::default(),
            seal: SealState::default(),
            size: AtomicU64::new(UNKNOWN),
            cuts: AtomicU64::new(0),
            used: AtomicBool::new(true),
            handles: AtomicU32::new(0),
            place: Mutex::new(Place { name, fd, orphan: None, pinned }),
            open: Mutex::default(),
        }
    }

    /// The plaintext size, if it is known.
    pub fn size(&self) -> Option<u64> {
        Some(self.size.load(Ordering::Acquire)).filter(|size| *size != UNKNOWN)
    }

    /// Remembers the plaintext size unless it is known: what was measured may be older than what was set.
    pub fn learn_size(&self, size: u64) -> u64 {
        match self.size.compare_exchange(UNKNOWN, size, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => size,
            Err(known) => known,
        }
    }

    /// Sets the plaintext size.
    pub fn set_size(&self, size: u64) {
        if self.size.swap(size, Ordering::SeqCst) > size {
            self.durable.cut(size);
        }
    }

    /// Sets a smaller plaintext size, before anything is cut off on the storage. Who reads without holding the blocks and finds
    /// [`Self::cuts`] changed afterwards may have met a block between its two states.
    pub fn cut_to(&self, size: u64) {
        self.set_size(size);
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// How often the file was made shorter.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The descriptor, opened anew through the parents if it was given up.
    pub fn fd(self: &Arc<Self>, anchors: &Anchors) -> Result<Anchor, FsError> {
        for _ in 0..TRIES {
            let (parent, name) = {
                let place = self.place();
                if let Some(fd) = &place.fd {
                    self.used.store(true, Ordering::Relaxed);
                    return Ok(fd.clone());
                }
                place.name.clone().ok_or(FsError::Refused(Errno::STALE))?
            };
            let dir = parent.fd(anchors)?;
            match Anchor::find_as(&dir, &name, self.kind) {
                Ok((fd, stat)) if Identity::of(&stat) == self.identity => {
                    self.place().fd = Some(fd.clone());
                    anchors.added(self);
                    return Ok(fd);
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(FsError::Refused(Errno::STALE))
    }

    /// Gives the inode a descriptor if it has none.
    pub fn offer_fd(self: &Arc<Self>, fd: Anchor, anchors: &Anchors) {
        let mut place = self.place();
        self.used.store(true, Ordering::Relaxed);
        if place.fd.is_none() {
            place.fd = Some(fd);
            drop(place);
            anchors.added(self);
        }
    }

    /// The file for reading, or for writing too, if the descriptor that stands for it is good for that.
    pub fn file(&self, write: bool) -> Option<Arc<File>> {
        self.place().fd.as_mut()?.file(write)
    }

    /// It is `name` in `parent` now.
    pub fn moved_to(&self, parent: &Arc<Inode>, name: &CStr) {
        let mut place = self.place();
        place.name = Some((Arc::clone(parent), name.to_owned()));
        place.pinned = place.orphan.is_some();
    }

    /// It was found as `name` in `parent`. That is its name if no other one is known; the root needs none.
    pub fn found_as(&self, parent: &Arc<Inode>, name: &CStr) {
        let mut place = self.place();
        if place.name.is_none() && self.id != ROOT {
            place.name = Some((Arc::clone(parent), name.to_owned()));
            place.pinned = place.orphan.is_some();
        }
    }

    /// The name `name` in `parent` is gone. The descriptor must have been taken with [`Self::fd`] before.
    pub fn lost_name(&self, parent: &Arc<Inode>, name: &CStr) {
        let mut place = self.place();
        let known = place.name.as_ref().is_some_and(|(dir, known)| dir.id == parent.id && **known == *name);
        if known {
            place.name = None;
            place.pinned = true;
        }
    }

    /// Its last name was removed while it was open: it is `name` among the orphans now.
    pub fn orphaned(&self, name: CString) {
        let mut place = self.place();
        place.orphan = Some(name);
        place.pinned = true;
    }

    /// It leaves the orphans; the name that it had there. Without another one the descriptor stays.
    pub fn leaves_orphans(&self) -> Option<CString> {
        let mut place = self.place();
        place.pinned = place.name.is_none();
        place.orphan.take()
    }

    /// Whether it is among the orphans.
    pub fn is_orphan(&self) -> bool {
        self.place().orphan.is_some()
    }

    /// The parent directory, if a name is known.
    pub fn parent(&self) -> Option<Arc<Inode>> {
        self.place().name.as_ref().map(|(parent, _)| Arc::clone(parent))
    }

    /// The parent and the name, if the kernel could do without this inode: a closed file that was not used since the last
    /// time it was asked.
    pub fn idle_name(&self) -> Option<(u64, CString)> {
        let used = self.used.swap(false, Ordering::Relaxed);
        if used || !self.is_file() || self.handles.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.place().name.as_ref().map(|(parent, name)| (parent.id, name.clone()))
    }

    /// Opens it once more: the shared state of all handles, made by `first` for the first one.
    pub fn open(
        self: &Arc<Self>,
        first: impl FnOnce() -> Result<OpenFile, FsError>,
    ) -> Result<Arc<OpenFile>, FsError> {
        let mut open = self.opens();
        // Counted before, so that the descriptor stays that `first` uses.
        self.handles.fetch_add(1, Ordering::Relaxed);
        let file = match &*open {
            Some(file) => Arc::clone(file),
            None => Arc::new(first().inspect_err(|_| {
                self.handles.fetch_sub(1, Ordering::Relaxed);
            })?),
        };
        *open = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The shared state of the handles, if there are any.
    pub fn opened(&self) -> Option<Arc<OpenFile>> {
        self.opens().clone()
    }

    /// Runs `work` if this file is open once, while nobody else opens it, cuts it or gives it back.
    pub fn alone(&self, work: impl FnOnce()) {
        let _open = self.opens();
        if self.handles.load(Ordering::Relaxed) == 1 {
            work();
        }
    }

    /// Runs `work` while nobody writes this file or opens it.
    pub fn undisturbed(&self, work: impl FnOnce()) {
        let open = self.opens();
        let Some(file) = open.clone() else {
            work();
            return;
        };
        drop(open);
        let _held = file.ranges.hold_from(0);
        work();
    }

    /// Gives a handle back; if it was the last one, the state of all of them, which takes the key along.
    pub fn release(&self) -> Option<Arc<OpenFile>> {
        let mut open = self.opens();
        if open.is_none() || self.handles.fetch_sub(1, Ordering::Relaxed) > 1 {
            return None;
        }
        open.take()
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opens(&self) -> MutexGuard<'_, Option<Arc<OpenFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the descriptor up unless it was used or must stay; whether it is gone.
    pub fn give_up_fd(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) || self.handles.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let mut place = self.place();
        if place.pinned {
            return false;
        }
        place.fd = None;
        true
    }
}

#[cfg(test)]
impl Inode {
    /// Gives the descriptor up, as the cache may at any time.
    pub fn forget_fd(&self) {
        self.place().fd = None;
    }
}
