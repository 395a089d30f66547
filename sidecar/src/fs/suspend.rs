//! Suspension: no data is served, no plaintext stays behind, nothing that was accepted is lost.
//!
//! Invariant: the order. First no new open, read or write; then the kernel forgets its pages and writes back those that a
//! process changed in a mapping; then all is synced; only then are the keys dropped. A mapped page that is touched afterwards
//! is a SIGBUS.

use std::ffi::CStr;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::EncryptedFs;
use super::error::FsError;
use super::inode::Inode;

/// How long the kernel may take to write changed pages back.
const WRITEBACK: Duration = Duration::from_secs(2);
/// How long reads and writes that are under way may take.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// How the kernel is told to forget. Its calls may wait for requests to be served, so they come from a thread that serves
/// none.
pub trait KernelCache: Send + Sync {
    /// Remembers `data` as the bytes of an inode from `offset` on. Only while nobody else can write or read the inode.
    fn remember(&self, id: u64, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Forgets all pages of an inode, after writing changed ones back.
    fn forget_pages(&self, id: u64) -> io::Result<()>;
    /// Forgets the attributes of an inode.
    fn forget_attributes(&self, id: u64) -> io::Result<()>;
    /// Forgets that `name` in `parent` was looked up, and gives the inode back if nobody uses it.
    fn forget_name(&self, parent: u64, name: &CStr) -> io::Result<()>;
    /// Has every thread that serves wipe its buffers, within `patience`; whether they all have. `files` are inodes of files
    /// that were served: with none of them there is no plaintext.
    fn forget_buffers(&self, files: &[u64], patience: Duration) -> bool {
        let _ = (files, patience);
        true
    }
}

/// How a suspension went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "a report of four steps, each of which may have failed alone"
)]
pub struct Suspended {
    /// Inodes whose pages the kernel was told to forget.
    pub inodes: usize,
    /// The kernel forgot them all in time.
    pub forgotten: bool,
    /// No read or write was under way any more when the keys were dropped.
    pub quiet: bool,
    /// What had been written is durable.
    pub synced: bool,
    /// Every thread that serves has wiped its buffers.
    pub wiped: bool,
}

impl EncryptedFs {
    /// Suspends. Must not be called by a thread that serves requests. Suspending twice does no harm.
    pub fn suspend(self: &Arc<Self>) -> Suspended {
        let start = Instant::now();
        self.gate.drain(UNDER_WAY);
        let inodes = self.table.select(|inode| inode.cached.load(Ordering::Relaxed));
        let ids: Arc<[u64]> = inodes.iter().map(|inode| inode.id).collect();
        let drained = self.forget_pages(Arc::clone(&ids), WRITEBACK);
        let quiet = self.gate.shut(UNDER_WAY);
        // Pages that came back between the first round and now, and those that could not be written.
        let forgotten = self.forget_pages(Arc::clone(&ids), WRITEBACK) && drained;
        let synced = rustix::fs::syncfs(&self.root).is_ok();
        self.drop_keys(&inodes);
        let wiped = self.forget_buffers(&ids);
        if !quiet {
            self.forget_stragglers(Arc::clone(&ids));
        }
        let done = Suspended { inodes: inodes.len(), forgotten, quiet, synced, wiped };
        tracing::info!(?done, millis = start.elapsed().as_millis() as u64, "data is suspended");
        done
    }

    /// A read that hangs in the storage may still bring a page: that one is forgotten when it has come.
    fn forget_stragglers(self: &Arc<Self>, ids: Arc<[u64]>) {
        let fs = Arc::clone(self);
        let work = move || {
            while fs.gate.is_closing() {
                if fs.gate.wait_until_empty(WRITEBACK) {
                    fs.forget_pages(Arc::clone(&ids), WRITEBACK);
                    fs.forget_buffers(&ids);
                    return;
                }
            }
        };
        if std::thread::Builder::new().name("stragglers".into()).spawn(work).is_err() {
            tracing::error!("cannot watch reads that are still under way");
        }
    }

    fn forget_buffers(&self, files: &[u64]) -> bool {
        let wiped = files.is_empty()
            || self.connection.cache().is_none_or(|cache| cache.forget_buffers(files, UNDER_WAY));
        if !wiped {
            tracing::warn!("plaintext may be left in the buffers of threads that did not answer in time");
        }
        wiped
    }

    /// Suspends for good, because another one has the volume: from now on no metadata is written either, and
    /// [`Self::resume`] does nothing.
    pub fn fence(self: &Arc<Self>) -> Suspended {
        *self.fenced.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.suspend()
    }

    /// Serves again, unless it was fenced. Each file's key is fetched anew when it is next used.
    pub fn resume(&self) {
        // Held until the gate is open, so that a fence comes before or after, never in between.
        let fenced = self.fenced.read().unwrap_or_else(PoisonError::into_inner);
        if !*fenced && self.gate.is_closing() {
            self.gate.open();
            tracing::info!("data is served");
        }
    }

    /// Whether data is served.
    pub fn is_suspended(&self) -> bool {
        self.gate.is_closing()
    }

    /// What a request gets that the suspension stopped: an outage is not called a refusal.
    pub fn why_suspended(&self) -> FsError {
        self.keys.permit().err().map_or(FsError::Suspended, FsError::Key)
    }

    /// Tells the kernel that attributes changed in a way that it does not expect, before the request is answered.
    pub(super) fn attributes_changed(&self, inode: &Inode) {
        let Some(cache) = self.connection.cache() else { return };
        let id = inode.id;
        // From a thread that serves nothing.
        std::thread::scope(|scope| {
            let told = std::thread::Builder::new().spawn_scoped(scope, || cache.forget_attributes(id));
            drop(told.map(std::thread::ScopedJoinHandle::join));
        });
    }

    fn drop_keys(&self, inodes: &[Arc<Inode>]) {
        let open = self.table.select(|inode| inode.opened().is_some());
        for inode in inodes.iter().chain(&open) {
            if let Some(open) = inode.opened() {
                open.key.drop_key();
            }
        }
    }

    /// Tells the kernel, from a thread of its own, and waits for at most `patience`.
    fn forget_pages(&self, ids: Arc<[u64]>, patience: Duration) -> bool {
        let Some(cache) = self.connection.cache() else { return true };
        let (done, finished) = channel();
        let work = move || {
            let mut all = true;
            for id in ids.iter() {
                all &= cache.forget_pages(*id).is_ok();
            }
            let _ = done.send(all);
        };
        if std::thread::Builder::new().name("forget-pages".into()).spawn(work).is_err() {
            return false;
        }
        finished.recv_timeout(patience).unwrap_or(false)
    }
}
