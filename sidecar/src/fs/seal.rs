//! Seals: the size at which a file was left, so that whole blocks that are cut off offline are noticed.
//!
//! Invariant: no size changes before the file's seal is open on the device; a seal is closed only at a size that is there, and
//! only while nobody can change it. So no crash leaves a closed seal and another size. A seal that is lost in one is open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envelope::{SEAL_HEAD, SEAL_LEN, SEAL_OFFSET, Seal, SealKey};

use super::error::FsError;
use super::inode::Inode;
use super::measure::{measure, read_up_to};
use super::open_file::OpenFile;
use super::write::Target;
use super::{Counters, EncryptedFs};
use crate::sweep::region_file;

/// Files that wait to be sealed, at most. One that does not fit stays open until it is closed again.
const MOST: usize = 32_768;

/// The sector may say a size; so it may where nothing is known (0).
const CLOSED: u8 = 1;
/// The sector says that it is open; whether the device has that is not known.
const SEEN_OPEN: u8 = 2;
/// It does on the device.
const OPEN: u8 = 3;

/// What is known of an inode's seal.
#[derive(Default)]
pub struct SealState {
    state: AtomicU8,
    /// Counts changes of the size, each before it begins.
    resizes: AtomicU64,
}

impl SealState {
    /// The header was just written, for the first time: no device has ever seen the seal closed.
    pub fn is_new(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::SeqCst) == state
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    /// Whether the sector is known to say that it is open.
    fn is_open(&self) -> bool {
        self.is(SEEN_OPEN) || self.is(OPEN)
    }
}

/// A file that was closed, and the sector that it is to get.
struct Left {
    size: u64,
    resizes: u64,
    head: [u8; SEAL_HEAD],
}

/// Files that wait to be sealed.
pub struct Seals {
    waiting: Mutex<HashMap<u64, Left>>,
    /// Held by whoever writes seals, and by whoever makes all inodes anew.
    batch: Mutex<()>,
    /// The root, opened before anything was written, for a `syncfs` that tells of every failed write; absent on a read-only
    /// volume.
    root: Option<OwnedFd>,
    /// `syncfs` reaches the device.
    syncfs_is_durable: bool,
    /// The storage lost a write, and of which file nobody knows: nothing is sealed any more.
    distrusts: AtomicBool,
}

impl Seals {
    /// `root` was just opened, and nobody else uses it.
    pub fn new(root: Option<OwnedFd>, syncfs_is_durable: bool) -> Self {
        let (waiting, batch, distrusts) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { waiting, batch, root, syncfs_is_durable, distrusts }
    }

    /// Nothing waits any more, and nothing is sealed while the guard lives: inodes are made anew.
    pub fn forget_all(&self) -> MutexGuard<'_, ()> {
        let guard = lock(&self.batch);
        lock(&self.waiting).clear();
        guard
    }
}

impl EncryptedFs {
    /// Compares the size of a file that is being opened with what its seal says, and remembers what that is.
    pub(super) fn check_seal(
        &self,
        inode: &Inode,
        open: &OpenFile,
        file: &File,
        key: &SealKey,
    ) -> Result<(), FsError> {
        // Nobody changes the size between the two looks.
        let _held = open.ranges.hold_from(0);
        let mut sector = [0; SEAL_LEN];
        read_up_to(file, &mut sector, SEAL_OFFSET as u64)?;
        match key.open(&sector).map_err(FsError::Seal)? {
            Seal::Open if inode.seal.is(OPEN) => {}
            Seal::Open => inode.seal.set(SEEN_OPEN),
            Seal::Closed(sealed) => {
                let found = measure(file, self.options.geometry, file.metadata()?.len())?.size;
                if found != sealed {
                    return Err(FsError::Size { sealed, found });
                }
                inode.seal.set(CLOSED);
            }
        }
        Ok(())
    }

    /// The size of a file, whose blocks are held from where it changes, is about to become `size`: its seal is opened before.
    pub(super) fn before_resize(&self, target: &Target<'_>, size: u64) -> Result<(), FsError> {
        let Some(key) = &target.key.seal else { return Ok(()) };
        let seal = &target.inode.seal;
        if size == target.size {
            return Ok(());
        }
        seal.resizes.fetch_add(1, Ordering::SeqCst);
        if seal.is(OPEN) {
            return Ok(());
        }
        target.file.write_all_at(&key.make(Seal::Open), SEAL_OFFSET as u64)?;
        seal.set(SEEN_OPEN);
        self.settle(target)?;
        seal.set(OPEN);
        Counters::add(&self.counters.seals_opened, 1);
        Ok(())
    }

    /// The last handle of a file was given back: its seal is made ready to be closed, while its key is still here.
    pub(super) fn leave(&self, inode: &Inode, open: &OpenFile) {
        let seal = &inode.seal;
        if !seal.is_open() || self.options.read_only || open.has_failed_sync() || inode.is_orphan() {
            return;
        }
        let Some(key) = open.key.present().filter(|key| key.may_write) else { return };
        let resizes = seal.resizes.load(Ordering::SeqCst);
        let (Some(key), Some(size), Ok(())) = (&key.seal, inode.size(), self.keys.permit()) else { return };
        let mut head = [0; SEAL_HEAD];
        head.copy_from_slice(&key.make(Seal::Closed(size))[..SEAL_HEAD]);
        let mut waiting = lock(&self.seals.waiting);
        let is_full = waiting.len() >= MOST;
        match waiting.entry(inode.id) {
            Entry::Occupied(mut entry) => drop(entry.insert(Left { size, resizes, head })),
            // It stays known until it is sealed.
            Entry::Vacant(entry) if !is_full && self.table.hold(inode.id) => {
                entry.insert(Left { size, resizes, head });
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Seals the files that were closed since the last time: first all that they hold becomes durable. How many were sealed.
    /// Nothing is while data is suspended; those files wait. From a thread that serves nothing.
    pub fn seal_closed(&self) -> u64 {
        let _batch = lock(&self.seals.batch);
        let Some(root) = &self.seals.root else { return 0 };
        if self.gate.is_closing() || lock(&self.seals.waiting).is_empty() {
            return 0;
        }
        let left = std::mem::take(&mut *lock(&self.seals.waiting));
        if let Err(error) = rustix::fs::syncfs(root) {
            self.seals.distrusts.store(true, Ordering::SeqCst);
            tracing::error!(%error, "the storage lost a write: no file is sealed any more");
        }
        let mut sealed = 0;
        for (id, left) in left {
            if self.gate.is_closing() {
                self.wait_on(id, left);
                continue;
            }
            match self.close_seal(id, &left) {
                Ok(done) => sealed += u64::from(done),
                Err(error) => tracing::debug!(%error, "a file's seal stays open"),
            }
            self.table.forget(id, 1);
        }
        Counters::add(&self.counters.seals_closed, sealed);
        sealed
    }

    /// Whether a file is still there, and as long as this on the storage.
    fn has(&self, file: &File, size: u64) -> bool {
        let Ok(metadata) = file.metadata() else { return false };
        let measured = || measure(file, self.options.geometry, metadata.len());
        metadata.nlink() > 0 && measured().is_ok_and(|found| found.size == size)
    }

    /// Puts a file back that was not sealed, unless it was closed again meanwhile.
    fn wait_on(&self, id: u64, left: Left) {
        match lock(&self.seals.waiting).entry(id) {
            Entry::Occupied(_) => self.table.forget(id, 1),
            Entry::Vacant(entry) => drop(entry.insert(left)),
        }
    }

    /// Closes one seal, if the file is as it was left; whether it did.
    fn close_seal(&self, id: u64, left: &Left) -> Result<bool, FsError> {
        if self.seals.distrusts.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let inode = self.inode(id)?;
        if !is_as_left(&inode, left) {
            return Ok(false);
        }
        // A descriptor of its own: of a sync that failed the application's must be told too.
        let file = self.open_backing(&inode, true)?;
        if !self.seals.syncfs_is_durable {
            file.sync_data()?;
        }
        let mut sector = [0; SEAL_LEN];
        sector[..SEAL_HEAD].copy_from_slice(&left.head);
        let undisturbed = |work: &mut dyn FnMut()| inode.undisturbed(work);
        let allowed = || {
            let pass = self.gate.enter(false).ok()?;
            let still =
                self.check_writable().is_ok() && is_as_left(&inode, left) && self.has(&file, left.size);
            // From here on it may say so, whatever becomes of the write.
            still.then(|| inode.seal.set(CLOSED)).map(|()| pass)
        };
        let header_len = self.options.geometry.header_len();
        Ok(region_file::write_seal(&file, header_len, &sector, &undisturbed, allowed)?)
    }
}

/// Whether the size of a file is the one that it was left with, and has been since.
fn is_as_left(inode: &Arc<Inode>, left: &Left) -> bool {
    let seal = &inode.seal;
    seal.is_open() && seal.resizes.load(Ordering::SeqCst) == left.resizes && inode.size() == Some(left.size)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
