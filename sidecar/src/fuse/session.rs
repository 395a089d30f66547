//! A served FUSE connection: threads that read requests from one descriptor and answer them.
//!
//! Invariant: all threads read the one descriptor that was handed over and never a clone of it, so that requests in flight
//! outlive a thread; notifications are written by threads that serve no request.

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{
    Notify_Retrieve_Out, NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyOpcode, OutHeader,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::dispatch::Worker;
use super::init::Negotiated;
use super::pool::Pool;
use super::pulse::Sign;
use super::served::Served;
use super::wipe::Wipes;
use crate::fs::{KernelCache, Waiting};

/// Stack of a serving thread: a few blocks of plaintext at most.
const STACK: usize = 512 * 1024;

/// Inodes that the kernel may know, open ones and directories aside: each takes some 400 bytes here.
const MOST_INODES: usize = 65_536;
/// Between two looks at how many there are.
const LOOK: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The filesystem was unmounted.
    Unmounted,
    /// The connection was aborted.
    Aborted,
    /// The device failed.
    Failed(Errno),
}

/// What all threads of a session share.
pub struct Shared {
    device: Arc<OwnedFd>,
    pub(super) fs: Arc<dyn Served>,
    pub(super) negotiated: OnceLock<Negotiated>,
    started: Condvar,
    pool: Pool,
    wipes: Wipes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: bool,
    end: Option<End>,
}

/// A served connection. Dropping it stops nothing: the threads end when the connection does.
pub struct Session {
    shared: Arc<Shared>,
}

/// A look at a session from outside, that keeps nothing of it alive.
pub struct Vitals {
    shared: Weak<Shared>,
}

impl Vitals {
    /// What the session's threads are doing; `None` once it has ended.
    pub fn sign(&self) -> Option<Sign> {
        self.shared.upgrade()?.pool.sign()
    }
}

impl Session {
    /// Serves `fs` on the FUSE device `device`, which somebody mounted; INIT is answered if it is still to come.
    pub fn start(device: OwnedFd, fs: Arc<dyn Served>) -> io::Result<Self> {
        Self::begin(device, fs, None)
    }

    /// As [`Self::start`], on a device whose INIT somebody answered with `agreed`.
    pub fn resume(device: OwnedFd, fs: Arc<dyn Served>, agreed: Negotiated) -> io::Result<Self> {
        Self::begin(device, fs, Some(agreed))
    }

    fn begin(device: OwnedFd, fs: Arc<dyn Served>, agreed: Option<Negotiated>) -> io::Result<Self> {
        let device = Arc::new(device);
        let shared = Arc::new(Shared {
            device,
            fs,
            negotiated: OnceLock::new(),
            started: Condvar::new(),
            pool: Pool::new(),
            wipes: Wipes::default(),
            state: Mutex::default(),
        });
        if let Some(agreed) = agreed {
            shared.has_started(agreed);
        }
        let notifier = Notifier { device: Arc::downgrade(&shared.device), shared: Arc::downgrade(&shared) };
        shared.fs.connected(Arc::new(notifier), Arc::new(Spawner { shared: Arc::downgrade(&shared) }));
        shared.pool.enter();
        spawn(&shared)?;
        let keeper = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("fuse-keeper".into())
            .stack_size(STACK)
            .spawn(move || keep(&keeper))?;
        Ok(Self { shared })
    }

    /// Waits until INIT was answered; whether it was.
    pub fn wait_started(&self, patience: Duration) -> bool {
        let state = self.shared.state();
        let waiting = |state: &mut State| !state.started && state.end.is_none();
        let waited = self.shared.started.wait_timeout_while(state, patience, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.started
    }

    /// What was agreed with the kernel, once it was.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.shared.negotiated.get().copied()
    }

    /// For whoever has to know whether it gets on.
    pub fn vitals(&self) -> Vitals {
        Vitals { shared: Arc::downgrade(&self.shared) }
    }

    /// Whether the connection has ended, also where no thread has come to see it yet.
    pub fn is_cut(&self) -> bool {
        let mut polled = [PollFd::new(&*self.shared.device, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled_well = rustix::event::poll(&mut polled, Some(&at_once)).is_ok();
        polled_well && polled[0].revents().contains(PollFlags::ERR)
    }

    /// Waits until the connection ended and every request was answered.
    pub fn wait(&self) -> End {
        self.shared.pool.wait_empty(None);
        self.shared.state().end.unwrap_or(End::Unmounted)
    }

    /// As [`Self::wait`], for at most `patience`.
    pub fn wait_for(&self, patience: Duration) -> Option<End> {
        let ended = self.shared.pool.wait_empty(Some(patience));
        ended.then(|| self.shared.state().end.unwrap_or(End::Unmounted))
    }
}

impl Shared {
    /// INIT was answered.
    pub(super) fn has_started(&self, negotiated: Negotiated) {
        let _ = self.negotiated.set(negotiated);
        self.state().started = true;
        self.started.notify_all();
    }

    /// Answers a request: one write of all parts. That it was withdrawn meanwhile is no error.
    pub(super) fn reply(&self, unique: u64, error: i32, parts: &[&[u8]]) {
        let len = size_of::<OutHeader>() + parts.iter().map(|part| part.len()).sum::<usize>();
        let header = OutHeader { len: len as u32, error: -error, unique };
        let mut slices = [IoSlice::new(header.as_slice()); 4];
        for (slice, part) in slices[1..].iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        match rustix::io::writev(&self.device, &slices[..=parts.len()]) {
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(error) => tracing::warn!(%error, "cannot answer a request"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, end: End) {
        self.state().end.get_or_insert(end);
        self.pool.close();
        self.started.notify_all();
    }

    /// Serves until the session ends, or until there are too many threads; `true`: this one was counted out already.
    fn serve(self: &Arc<Self>) -> bool {
        let mut worker = Worker::new();
        let mut seat = self.wipes.seat();
        while self.pool.begins_idle() {
            if seat.is_asked() {
                worker.wipe();
                seat.has_wiped();
            }
            let read = self.read(worker.buffer());
            if let Err(end) = read {
                self.ended(end);
            }
            if self.pool.ends_idle() {
                // A thread that cannot be started now is started by a later request.
                let _ = spawn(self);
            }
            match read {
                Ok(len) => worker.handle(self, len),
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits for a request.
    fn read(&self, buffer: &mut [u8]) -> Result<usize, End> {
        loop {
            match rustix::io::read(&*self.device, &mut *buffer) {
                Ok(len) => return Ok(len),
                // Withdrawn before it was read; a signal.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut polled = [PollFd::new(&*self.device, PollFlags::IN)];
                    let _ = rustix::event::poll(&mut polled, None);
                }
                Err(Errno::NODEV) => return Err(End::Unmounted),
                Err(Errno::CONNABORTED) => return Err(End::Aborted),
                Err(error) => return Err(End::Failed(error)),
            }
        }
    }
}

/// Keeps the kernel from holding ever more inodes, as long as the session lasts.
fn keep(session: &Weak<Shared>) {
    while let Some(shared) = session.upgrade() {
        if shared.state().end.is_some() {
            return;
        }
        shared.fs.give_back(MOST_INODES);
        drop(shared);
        std::thread::sleep(LOOK);
    }
}

/// Starts a thread that was counted already.
fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let counted = Counted { shared: Arc::clone(shared), out: false };
    let thread = std::thread::Builder::new().name("fuse".into()).stack_size(STACK);
    thread.spawn(move || counted.serve()).map(drop)
}

/// A thread that is counted, until it is counted out, however it ends.
struct Counted {
    shared: Arc<Shared>,
    out: bool,
}

impl Counted {
    fn serve(mut self) {
        self.out = self.shared.serve();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.out {
            self.shared.pool.leave();
        }
    }
}

/// Puts a thread in the place of one that waits.
struct Spawner {
    shared: Weak<Shared>,
}

impl Waiting for Spawner {
    fn begins(&self) {
        if let Some(shared) = self.shared.upgrade()
            && shared.pool.begins_waiting()
        {
            let _ = spawn(&shared);
        }
    }

    fn ends(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.pool.ends_waiting();
        }
    }
}

/// `FUSE_NOTIFY_STORE`, which the protocol types do not know.
const NOTIFY_STORE: i32 = 4;

/// `fuse_notify_store_out`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct NotifyStoreOut {
    nodeid: u64,
    offset: u64,
    size: u32,
    padding: u32,
}

// SAFETY: it is made of integers only, with no padding between them, so that any bytes are a value and any value is bytes.
unsafe impl ByteValued for NotifyStoreOut {}

/// Tells the kernel what to forget and what to remember.
struct Notifier {
    device: Weak<OwnedFd>,
    shared: Weak<Shared>,
}

impl KernelCache for Notifier {
    fn remember(&self, id: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let body = NotifyStoreOut { nodeid: id, offset, size: data.len() as u32, padding: 0 };
        self.notify(NOTIFY_STORE, body.as_slice(), data)
    }

    fn forget_pages(&self, id: u64) -> io::Result<()> {
        let body = NotifyInvalInodeOut { ino: id, off: 0, len: 0 };
        self.notify(NotifyOpcode::InvalInode as i32, body.as_slice(), &[])
    }

    fn forget_attributes(&self, id: u64) -> io::Result<()> {
        // A negative offset: no pages.
        let body = NotifyInvalInodeOut { ino: id, off: -1, len: 0 };
        self.notify(NotifyOpcode::InvalInode as i32, body.as_slice(), &[])
    }

    fn forget_name(&self, parent: u64, name: &CStr) -> io::Result<()> {
        let body = NotifyInvalEntryOut { parent, namelen: name.count_bytes() as u32, padding: 0 };
        self.notify(NotifyOpcode::InvalEntry as i32, body.as_slice(), name.to_bytes_with_nul())
    }

    fn forget_buffers(&self, files: &[u64], patience: Duration) -> bool {
        let Some(shared) = self.shared.upgrade() else { return true };
        // Nothing of a file's pages: each question comes back as a request, and so wakes a thread that waits for one.
        let ask = |file: &u64| {
            let body = Notify_Retrieve_Out { nodeid: *file, ..Notify_Retrieve_Out::default() };
            self.send(NotifyOpcode::Retrieve as i32, body.as_slice(), &[]).is_ok()
        };
        shared.wipes.ask(patience, |threads| {
            for _ in 0..threads {
                // One that the kernel still knows.
                let _ = files.iter().any(ask);
            }
        })
    }
}

impl Notifier {
    fn notify(&self, code: i32, body: &[u8], rest: &[u8]) -> io::Result<()> {
        match self.send(code, body, rest) {
            // The kernel has forgotten it by itself, or the connection is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&self, code: i32, body: &[u8], rest: &[u8]) -> Result<(), Errno> {
        // Nobody can say any more what a kernel without a connection remembers.
        let Some(device) = self.device.upgrade() else { return Err(Errno::NOTCONN) };
        let len = size_of::<OutHeader>() + body.len() + rest.len();
        let header = OutHeader { len: len as u32, error: code, unique: 0 };
        let parts = [IoSlice::new(header.as_slice()), IoSlice::new(body), IoSlice::new(rest)];
        rustix::io::writev(&device, &parts).map(drop)
    }
}
