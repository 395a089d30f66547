//! The encrypted filesystem: plain methods over a backing directory, with no FUSE type in them.
//!
//! Invariant: plaintext and keys are in this process's memory only; what reaches the backing directory is ciphertext, names
//! and attributes. Objects are reached by descriptors, never by paths that somebody else could change.
//!
//! * [`EncryptedFs`] is one served volume. Its methods are in a file for each kind of operation.
//! * [`FileKeys`] is where keys come from; [`KernelCache`] is how the kernel is told to forget pages.

mod anchor;
mod attr;
mod buffer;
mod connection;
mod content;
mod create;
mod damage;
mod directory;
mod durable;
mod error;
mod gate;
mod inode;
mod key_cell;
pub mod keys;
mod lookup;
mod measure;
mod memory_keys;
mod names;
mod open;
mod open_file;
mod owner;
mod prefetch;
mod ranges;
mod read;
mod remove;
mod rename;
mod resize;
mod seal;
mod space;
mod suspend;
mod table;
mod types;
mod under_way;
mod write;
mod xattr;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use envelope::Ownership;
use kms::observe::Auditor;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

pub use buffer::{Buffer, MAX_IO, Scratch};
pub use create::NewMode;
pub use error::FsError;
pub use keys::{FileKeys, KeyFailure, NewFile, OpenedFile};
pub use measure::measure;
pub use memory_keys::MemoryKeys;
pub use rename::RenameHow;
pub use space::Seek;
pub use suspend::{KernelCache, Suspended};
pub use types::{
    Attr, Caller, DirEntry, Entry, OpenHow, Options, ROOT, SetAttr, SetTime, StorageSize, Time, WriteHow,
};

use anchor::Anchor;
use connection::Connection;
use directory::Streams;
use gate::Gate;
use inode::{Identity, Inode};
use names::Hidden;
use seal::Seals;
use table::Table;
use under_way::UnderWay;

use crate::volume::{Backing, names as own};

/// Descriptors that are kept open for inodes that nobody has open, where the limit allows.
const DESCRIPTORS: u64 = 16_384;

/// Told when a thread is about to wait for something other than the storage's ordinary speed (a key, an fsync), so that
/// another thread can take its place.
pub trait Waiting: Send + Sync {
    /// It begins to wait.
    fn begins(&self);
    /// It goes on.
    fn ends(&self);
}

/// Answers the gate's challenge: the hexadecimal nonce from the attribute's name in, the value out; `None` if it is none.
pub type Challenge = Box<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// What happened since the filesystem was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of plaintext that were read.
    pub read_bytes: AtomicU64,
    /// Bytes of plaintext that were written.
    pub written_bytes: AtomicU64,
    /// Headers whose slot was replaced because a retired key version stood in it.
    pub upgraded: AtomicU64,
    /// Such replacements that failed; the file was served all the same.
    pub upgrades_failed: AtomicU64,
    /// Files with blocks or a header region, and no header: they read as empty.
    pub headerless: AtomicU64,
    /// Blocks or headers that did not open.
    pub damaged: AtomicU64,
    /// Files whose contents the kernel was given when they were opened.
    pub prefetched: AtomicU64,
    /// Reads that met a block while it was being written, and were done again.
    pub reread: AtomicU64,
    /// `fsync`s of files and directories that the storage answered.
    pub synced: AtomicU64,
    /// Seals that were closed: the files were left at a size.
    pub seals_closed: AtomicU64,
    /// Seals that were opened: the size was about to change.
    pub seals_opened: AtomicU64,
    /// Entries that got another name, or may have: a sweep looks at them again. See [`EncryptedFs::moves`].
    pub renamed: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// One served volume. All methods may be called from many threads at once.
pub struct EncryptedFs {
    options: Options,
    keys: Arc<dyn FileKeys>,
    table: Table,
    hidden: Hidden,
    gate: Gate,
    streams: Streams,
    /// What a sweep must not overlook: names that change, and headers that are made.
    under_way: UnderWay,
    /// The root, opened for reading: `statfs` and `syncfs`.
    root: OwnedFd,
    /// The device of the root: everything else is on another filesystem.
    device: u64,
    /// `.cofferdam/orphans`; absent on a read-only volume.
    orphans: Option<OwnedFd>,
    /// Files that were closed and are not sealed yet.
    seals: Seals,
    next_orphan: AtomicU64,
    next_handle: AtomicU64,
    connection: Connection,
    /// Another one has the volume: nothing is written, and no data served, ever again. Held while the gate is opened.
    fenced: RwLock<bool>,
    challenge: OnceLock<Challenge>,
    /// Who keeps the audit trail; nobody: the program's log.
    auditor: OnceLock<Arc<dyn Auditor>>,
    /// Device nodes may be made.
    devices: AtomicBool,
    counters: Counters,
}

impl EncryptedFs {
    /// The filesystem over the directory `root`, whose marker was opened.
    pub fn new(root: BorrowedFd<'_>, options: Options, keys: Arc<dyn FileKeys>) -> Result<Self, FsError> {
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let anchor = openat(root, ".", directory | OFlags::PATH, Mode::empty())?;
        let root = openat(root, ".", directory | OFlags::RDONLY, Mode::empty())?;
        let identity = Identity::of(&rustix::fs::fstat(&anchor)?);
        let syncs =
            if options.read_only { None } else { Some(openat(&root, ".", directory, Mode::empty())?) };
        let seals = Seals::new(syncs, Backing::of(&root)?.syncfs_is_durable());
        let orphans = if options.read_only { None } else { Some(open_orphans(root.as_fd())?) };
        if let Some(orphans) = &orphans
            && options.ownership == Ownership::Virtual
        {
            owner::probe(orphans.as_fd())?;
        }
        Ok(Self {
            table: Table::new(Anchor::reference(anchor), identity, descriptor_limit()),
            hidden: Hidden::new(&options.storage_entries),
            gate: Gate::default(),
            streams: Streams::default(),
            under_way: UnderWay::default(),
            device: identity.dev,
            root,
            orphans,
            seals,
            next_orphan: AtomicU64::new(first_orphan_number()),
            next_handle: AtomicU64::new(1),
            connection: Connection::default(),
            fenced: RwLock::new(false),
            challenge: OnceLock::new(),
            auditor: OnceLock::new(),
            devices: AtomicBool::new(false),
            counters: Counters::default(),
            options,
            keys,
        })
    }

    /// How the volume is served.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many entries got another name so far. By the time that this returns, every header whose key was taken before
    /// the call is written, and every change of a name that began before it is counted: whoever walks the volume between
    /// two calls that return the same number has met every file.
    pub fn moves(&self) -> u64 {
        self.under_way.wait();
        self.counters.renamed.load(Ordering::Relaxed)
    }

    /// Runs `change`, by which an entry gets another name. Counted when that has happened, so that a walk that met neither
    /// the old place nor the new one finds another count at its end.
    fn moving<T>(&self, change: impl FnOnce() -> T) -> T {
        let _under_way = self.under_way.begin();
        let result = change();
        Counters::add(&self.counters.renamed, 1);
        result
    }

    /// Inodes that the kernel knows.
    pub fn inodes(&self) -> usize {
        self.table.len()
    }

    /// How the gate's challenge is answered. Once.
    pub fn set_challenge(&self, challenge: Challenge) {
        let _ = self.challenge.set(challenge);
    }

    /// Lets device nodes be made, where the backing storage lets this process do it. They work on no mount of ours (`nodev`),
    /// but on the raw volume they would: for archives that root unpacks offline, never in a pod.
    pub fn allow_devices(&self) {
        self.devices.store(true, Ordering::Relaxed);
    }

    fn native(&self) -> bool {
        self.options.ownership == Ownership::Native
    }

    /// Fails on a read-only volume, and on one that another one has.
    fn check_writable(&self) -> Result<(), FsError> {
        let writable = !self.options.read_only && !self.is_fenced();
        if writable { Ok(()) } else { Err(FsError::Refused(Errno::ROFS)) }
    }

    fn is_fenced(&self) -> bool {
        *self.fenced.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(&self, id: u64) -> Result<Arc<Inode>, FsError> {
        self.table.get(id)
    }

    /// The descriptor that stands for an inode.
    fn fd(&self, inode: &Arc<Inode>) -> Result<Anchor, FsError> {
        inode.fd(self.table.anchors())
    }

    /// Runs `wait`, which may take long, with somebody else in this thread's place.
    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        let Some(waiting) = self.connection.waiting() else { return wait() };
        waiting.begins();
        let _ends = Ends(waiting);
        wait()
    }
}

/// A wait that ends, however that comes about.
struct Ends(Arc<dyn Waiting>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.ends();
    }
}

fn open_orphans(root: BorrowedFd<'_>) -> Result<OwnedFd, FsError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(root, own::DIR, flags, Mode::empty())?;
    match rustix::fs::mkdirat(&dir, own::ORPHANS, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat(&dir, own::ORPHANS, flags, Mode::empty())?)
}

/// Half of what the process may open, so that open files and connections have the other half.
fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.unwrap_or(u64::MAX);
    usize::try_from((limit / 2).clamp(16, DESCRIPTORS)).unwrap_or(16)
}

/// Names of orphans must not collide with what an earlier process left.
fn first_orphan_number() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return 1;
    }
    u64::from_le_bytes(bytes) >> 1
}

/// The name by which a descriptor is reached as a path.
fn proc_path(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
