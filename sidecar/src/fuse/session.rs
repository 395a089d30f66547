//! A served FUSE connection: threads that read requests from one descriptor and answer them.
//!
//! Invariant: all threads read the one descriptor that was handed over and never a clone of it, so that requests in flight
//! outlive a thread.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use fuse_backend_rs::abi::fuse_abi::OutHeader;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::dispatch::Worker;
use super::init::{Negotiated, Trial};
use super::notify::Notifier;
use super::pool::Pool;
use super::pulse::Sign;
use super::ring::{Next, Ring};
use super::rings::{self, Rings};
use super::served::Served;
use super::wipe::{Seat, Wipes};
use crate::fs::{FsError, Waiting};

/// Stack of a serving thread: a few blocks of plaintext at most.
const STACK: usize = 512 * 1024;

/// Inodes that the kernel may know, open ones and directories aside: each takes some 400 bytes here.
const MOST_INODES: usize = 65_536;
/// Between two looks at how many there are.
const LOOK: Duration = Duration::from_secs(2);
/// As many looks between two times that files which were closed are sealed: each takes a `syncfs`.
const LOOKS: u64 = 3;

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
    pub(super) wipes: Wipes,
    pub(super) trial: Trial,
    /// Where requests come by io_uring.
    rings: Option<Rings>,
    /// A thread looks for requests without sleeping.
    spins: AtomicBool,
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
        let shared = self.shared.upgrade()?;
        let sign = shared.pool.sign()?;
        Some(shared.rings.as_ref().map_or(sign, |rings| rings.sign(sign)))
    }
}

impl Session {
    /// Serves `fs` on the FUSE device `device`, which somebody mounted; INIT is answered if it is still to come.
    pub fn start(device: OwnedFd, fs: Arc<dyn Served>) -> io::Result<Self> {
        Self::begin(device, fs, None, Trial::default())
    }

    /// As [`Self::start`], served as `trial` says, and waits for INIT at most `patience`. Fails where the kernel does not offer
    /// what it says.
    pub fn try_out(
        device: OwnedFd,
        fs: Arc<dyn Served>,
        trial: Trial,
        patience: Duration,
    ) -> io::Result<Self> {
        if trial.io_uring {
            Ring::probe()
                .map_err(|error| io::Error::new(error.kind(), format!("no io_uring here: {error}")))?;
            // A thread that waits at the descriptor looks up now and then: what wakes it otherwise goes by the rings.
            let flags = rustix::fs::fcntl_getfl(&device)?;
            rustix::fs::fcntl_setfl(&device, flags | OFlags::NONBLOCK)?;
        }
        let session = Self::begin(device, fs, None, trial)?;
        if !session.wait_started(patience) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not begin the session"));
        }
        let agreed = session.negotiated();
        if trial.io_uring && !agreed.is_some_and(|agreed| agreed.over_io_uring()) {
            return Err(rings::not_offered());
        }
        Ok(session)
    }

    /// As [`Self::start`], on a device whose INIT somebody answered with `agreed`; not one whose requests come by io_uring, because
    /// those in flight end with the process that had the rings.
    pub fn resume(device: OwnedFd, fs: Arc<dyn Served>, agreed: Negotiated) -> io::Result<Self> {
        if agreed.over_io_uring() {
            let text =
                "a session over io_uring cannot be taken over: its requests in flight ended with its rings";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Self::begin(device, fs, Some(agreed), Trial::default())
    }

    fn begin(
        device: OwnedFd,
        fs: Arc<dyn Served>,
        agreed: Option<Negotiated>,
        trial: Trial,
    ) -> io::Result<Self> {
        let device = Arc::new(device);
        let shared = Arc::new(Shared {
            device,
            fs,
            negotiated: OnceLock::new(),
            started: Condvar::new(),
            pool: Pool::new(trial.threads),
            wipes: Wipes::default(),
            trial,
            rings: trial.io_uring.then(Rings::new),
            spins: AtomicBool::new(false),
            state: Mutex::default(),
        });
        if let Some(agreed) = agreed {
            shared.has_started(agreed);
        }
        let notifier = Notifier::new(Arc::downgrade(&shared.device), Arc::downgrade(&shared));
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
        self.rings_are_over(None);
        self.shared.state().end.unwrap_or(End::Unmounted)
    }

    /// As [`Self::wait`], for at most `patience`.
    pub fn wait_for(&self, patience: Duration) -> Option<End> {
        let ended = self.shared.pool.wait_empty(Some(patience)) && self.rings_are_over(Some(patience));
        ended.then(|| self.shared.state().end.unwrap_or(End::Unmounted))
    }

    fn rings_are_over(&self, patience: Option<Duration>) -> bool {
        self.shared.rings.as_ref().is_none_or(|rings| rings.wait_over(patience))
    }
}

impl Shared {
    /// INIT was answered.
    pub(super) fn has_started(self: &Arc<Self>, negotiated: Negotiated) {
        let _ = self.negotiated.set(negotiated);
        if let Some(rings) = self.rings.as_ref().filter(|_| negotiated.over_io_uring()) {
            rings.begin().into_iter().for_each(|queue| self.start_ring(queue));
        }
        self.state().started = true;
        self.started.notify_all();
    }

    /// Answers a request: one write of all parts. That it was withdrawn meanwhile is no error.
    pub(super) fn reply(&self, unique: u64, error: i32, body: &[u8]) {
        let len = size_of::<OutHeader>() + body.len();
        let header = OutHeader { len: len as u32, error: -error, unique };
        match rustix::io::writev(&self.device, &[IoSlice::new(header.as_slice()), IoSlice::new(body)]) {
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(error) => tracing::warn!(%error, "cannot answer a request"),
        }
    }

    /// What an application is told.
    pub(super) fn errno(&self, error: FsError) -> i32 {
        let error = if matches!(error, FsError::Suspended) { self.fs.why_suspended() } else { error };
        error.errno()
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
            let read = self.read(worker.buffer(), &seat);
            if let Err(end) = read {
                self.ended(end);
            }
            if self.pool.ends_idle() {
                // A thread that cannot be started now is started by a later request.
                let _ = spawn(self);
            }
            match read {
                Ok(0) => {}
                Ok(len) => worker.handle(self, len),
                Err(_) => return false,
            }
        }
        true
    }

    /// Starts a ring that was counted already.
    fn start_ring(self: &Arc<Self>, queue: u16) {
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("fuse-ring".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            let Some(rings) = &shared.rings else { return };
            let counted = rings.enter(queue);
            let end = shared.serve_ring(queue, &counted);
            tracing::debug!(?end, queue, "a ring ends");
            if let End::Failed(error) = end {
                // Requests of its processor would wait for ever.
                tracing::error!(%error, queue, "cannot serve by io_uring");
                shared.ended(end);
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, queue, "cannot serve by io_uring");
            if let Some(rings) = &self.rings {
                rings.count_out(queue);
            }
            self.ended(End::Failed(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)));
        }
    }

    /// Serves requests of a processor, until the session ends.
    fn serve_ring(&self, queue: u16, counted: &rings::Counted<'_>) -> End {
        let failed = |error: io::Error| End::Failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        rings::pin(queue);
        let mut ring = match Ring::open(self.device.as_fd(), queue) {
            Ok(ring) => ring,
            Err(error) => return failed(error),
        };
        let mut worker = Worker::new();
        let mut seat = self.wipes.seat();
        loop {
            let next = counted.idle(|| ring.next(rings::LOOK));
            if seat.is_asked() {
                worker.wipe();
                ring.wipe();
                seat.has_wiped();
            }
            match next {
                Next::Request => {}
                Next::Nothing => match self.state().end {
                    Some(end) => return end,
                    None => continue,
                },
                Next::End(end) => return end,
            }
            let Some(request) = ring.request() else { return End::Failed(Errno::PROTO) };
            let unique = request.header.unique;
            let answered = match worker.answer(self, request) {
                Ok(reply) => ring.answer(unique, 0, reply.bytes()),
                Err(error) => ring.answer(unique, error, &[]),
            };
            if let Err(error) = answered {
                return failed(error);
            }
        }
    }

    /// Looks for a request without sleeping, for at most `patience`; one thread at a time.
    fn spin(&self, patience: Duration) {
        if self.spins.swap(true, Ordering::Acquire) {
            return;
        }
        let begin = Instant::now();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        while begin.elapsed() < patience {
            let mut polled = [PollFd::new(&*self.device, PollFlags::IN)];
            if rustix::event::poll(&mut polled, Some(&at_once)) != Ok(0) {
                break;
            }
        }
        self.spins.store(false, Ordering::Release);
    }

    /// Waits for a request; 0: none came, but this thread's memory is to be wiped.
    fn read(&self, buffer: &mut [u8], seat: &Seat<'_>) -> Result<usize, End> {
        if let Some(spin) = self.trial.spin {
            self.spin(spin);
        }
        loop {
            match rustix::io::read(&*self.device, &mut *buffer) {
                Ok(len) => return Ok(len),
                // Withdrawn before it was read; a signal.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut polled = [PollFd::new(&*self.device, PollFlags::IN)];
                    let look = Timespec { tv_sec: 0, tv_nsec: rings::LOOK.subsec_nanos().into() };
                    let _ = rustix::event::poll(&mut polled, Some(&look));
                    if let Some(end) = self.state().end {
                        return Err(end);
                    }
                    if seat.is_asked() {
                        return Ok(0);
                    }
                }
                Err(Errno::NODEV) => return Err(End::Unmounted),
                Err(Errno::CONNABORTED) => return Err(End::Aborted),
                Err(error) => return Err(End::Failed(error)),
            }
        }
    }
}

/// Keeps the kernel from holding ever more inodes, and seals files that were closed, as long as the session lasts.
fn keep(session: &Weak<Shared>) {
    for look in 1_u64.. {
        let Some(shared) = session.upgrade().filter(|shared| shared.state().end.is_none()) else { return };
        shared.fs.give_back(MOST_INODES);
        if look % LOOKS == 0 {
            shared.fs.seal_closed();
        }
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
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(queue) = shared.rings.as_ref().and_then(Rings::begins_waiting) {
            shared.start_ring(queue);
        }
        if shared.pool.begins_waiting() {
            let _ = spawn(&shared);
        }
    }

    fn ends(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.pool.ends_waiting();
        }
    }
}
