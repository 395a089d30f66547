//! The threads of a session whose requests come by io_uring. An option of `mount`, off by default: docs/performance.md.
//!
//! Invariant: a request that came by a ring is answered by it, or the session ends: the kernel sends no request of a processor
//! anywhere else once each processor has a ring.

use std::cell::Cell;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::pulse::Sign;

/// Rings of each processor to begin with: so many requests of it are handled at the same time.
const FIRST: usize = 4;
/// The most, when they wait for keys.
const MOST: usize = 256;
/// Where fewer than these are idle when one begins to wait, another one is started: the kernel gives a request that already waits
/// to no ring that is new.
const IDLE: usize = 4;
/// How often a ring looks whether the session has ended, or its memory is to be wiped.
pub const LOOK: Duration = Duration::from_millis(500);

/// The rings of one processor.
#[derive(Default)]
struct Queue {
    rings: AtomicUsize,
    idle: AtomicUsize,
}

/// See the module.
#[derive(Default)]
pub struct Rings {
    queues: Vec<Queue>,
    done: AtomicU64,
}

thread_local! {
    /// The processor whose requests this thread serves.
    static SERVES: Cell<Option<u16>> = const { Cell::new(None) };
}

/// A ring that is counted, however it ends.
pub struct Counted<'a> {
    rings: &'a Rings,
    queue: u16,
}

impl Rings {
    /// Rings for every processor that the kernel may ever have, as it wants them.
    pub fn new() -> Self {
        Self { queues: (0..processors()).map(|_| Queue::default()).collect(), done: AtomicU64::new(0) }
    }

    /// The queues of the rings to begin with, which are counted from now on.
    pub fn begin(&self) -> Vec<u16> {
        let queues = 0..self.queues.len();
        queues.flat_map(|queue| [queue as u16; FIRST]).filter(|queue| self.add(*queue)).collect()
    }

    fn add(&self, queue: u16) -> bool {
        let Some(counts) = self.queues.get(usize::from(queue)) else { return false };
        let more = |rings| (rings < MOST).then_some(rings + 1);
        counts.rings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// This thread serves `queue` from now on, for which it was counted already.
    pub fn enter(&self, queue: u16) -> Counted<'_> {
        SERVES.set(Some(queue));
        Counted { rings: self, queue }
    }

    /// A ring that was counted is none.
    pub fn count_out(&self, queue: u16) {
        if let Some(counts) = self.queues.get(usize::from(queue)) {
            counts.rings.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// This thread waits for something slow from now on, with a request in hand; where a ring is to be started for that.
    pub fn begins_waiting(&self) -> Option<u16> {
        let queue = SERVES.get()?;
        let idle = self.queues.get(usize::from(queue))?.idle.load(Ordering::Relaxed);
        (idle < IDLE && self.add(queue)).then_some(queue)
    }

    /// What the rings show, with `sign` of the threads that read the descriptor.
    pub fn sign(&self, sign: Sign) -> Sign {
        let idle = |queue: &Queue| queue.idle.load(Ordering::Relaxed) > 0;
        let idle = sign.idle && self.queues.iter().all(idle);
        Sign { idle, done: sign.done + self.done.load(Ordering::Relaxed) }
    }

    /// Waits until all rings ended, for at most `patience`; whether they did.
    pub fn wait_over(&self, patience: Option<Duration>) -> bool {
        let begin = Instant::now();
        loop {
            if self.queues.iter().all(|queue| queue.rings.load(Ordering::Relaxed) == 0) {
                return true;
            }
            if patience.is_some_and(|patience| begin.elapsed() >= patience) {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Counted<'_> {
    /// Waits for a request by `wait`.
    pub fn idle<T>(&self, wait: impl FnOnce() -> T) -> T {
        let Some(counts) = self.rings.queues.get(usize::from(self.queue)) else { return wait() };
        counts.idle.fetch_add(1, Ordering::Relaxed);
        let came = wait();
        counts.idle.fetch_sub(1, Ordering::Relaxed);
        self.rings.done.fetch_add(1, Ordering::Relaxed);
        came
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.rings.count_out(self.queue);
    }
}

/// Keeps this thread on one processor; one that is off, or not this process's, is served from another.
pub fn pin(processor: u16) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(usize::from(processor));
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(%error, processor, "cannot stay on a processor");
    }
}

/// The number of processors that the kernel may ever have.
fn processors() -> usize {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    last(&possible).unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// How many there are in a list such as `0-3,6`, up to the last one.
fn last(list: &str) -> Option<usize> {
    let number: usize = list.trim().rsplit([',', '-']).next()?.parse().ok()?;
    Some(number + 1)
}

/// What a person is told who wants io_uring where there is none.
pub fn not_offered() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the kernel does not offer FUSE over io_uring: it takes Linux 6.14 and the module parameter fuse.enable_uring",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_possible_processor_counts() {
        assert_eq!(
            (last("0-3\n"), last("0\n"), last("0-1,4-7\n"), last("")),
            (Some(4), Some(1), Some(8), None)
        );
    }

    #[test]
    fn a_ring_that_waits_is_replaced_before_its_processor_has_none_and_there_is_a_limit() {
        let rings = Rings { queues: vec![Queue::default(), Queue::default()], done: AtomicU64::new(0) };
        assert_eq!(rings.begin(), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(rings.begins_waiting(), None, "this thread serves no ring");
        let ring = rings.enter(1);
        let enough = ring.idle(|| ring.idle(|| ring.idle(|| ring.idle(|| rings.begins_waiting()))));
        assert_eq!((enough, ring.idle(|| rings.begins_waiting())), (None, Some(1)));
        let more = (0..2 * MOST).filter(|_| rings.begins_waiting().is_some()).count();
        assert_eq!(more, MOST - FIRST - 1);
        SERVES.set(None);
    }

    #[test]
    fn rings_of_one_processor_that_all_hang_are_no_sign_of_life() {
        let rings = Rings { queues: vec![Queue::default(), Queue::default()], done: AtomicU64::new(0) };
        let (one, other) = (rings.enter(0), rings.enter(1));
        let descriptor = Sign { idle: true, done: 1 };
        let both = one.idle(|| other.idle(|| rings.sign(descriptor)));
        assert!(both.idle);
        let hung = one.idle(|| rings.sign(descriptor));
        assert!(!hung.idle && hung.done > both.done);
        SERVES.set(None);
    }

    #[test]
    fn whoever_waits_for_the_end_sees_every_ring_out() {
        let rings = Rings { queues: vec![Queue::default()], done: AtomicU64::new(0) };
        assert!(rings.wait_over(Some(Duration::ZERO)));
        let begun: Vec<_> = rings.begin().into_iter().map(|queue| rings.enter(queue)).collect();
        assert!(!rings.wait_over(Some(Duration::from_millis(20))));
        drop(begun);
        assert!(rings.wait_over(None));
        SERVES.set(None);
    }
}
