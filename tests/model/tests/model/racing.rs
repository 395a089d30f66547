//! Threads that work on one file at once, each through a handle and a hard link of its own.
//!
//! Invariant: what each thread saw, and what the file holds in the end, here and on the storage, has an order that explains
//! it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sidecar::fs::{EncryptedFs, FsError, MAX_IO, NewMode, OpenHow, ROOT, Scratch, SetAttr, WriteHow};

use crate::order::{Deed, Event, Seen, explained};
use crate::real::{Make, Real, cstr, me, said};
use crate::steps::Allocation;
use crate::world::Verdict;

/// What a sweep says of a header that it meets while somebody writes it.
const HALF_MADE: &str = "understand the header";

/// One race: what the file holds before, and what each thread does.
#[derive(Clone, Debug)]
pub struct Race {
    pub before: u64,
    pub threads: Vec<Vec<Deed>>,
    /// Somebody rotates, rewraps and suspends meanwhile.
    pub trouble: bool,
}

impl Race {
    /// Runs it `rounds` times, each on a new file.
    pub fn run(&self, make: Make, rounds: usize) -> Verdict {
        let mut real = Real::make(make);
        (0..rounds).try_for_each(|round| self.once(&mut real, round))
    }

    fn once(&self, real: &mut Real, round: usize) -> Verdict {
        let before = vec![0xB0; self.before as usize];
        let (id, names) = prepare(real, round, self.threads.len(), &before)?;
        let clock = AtomicU64::new(0);
        let start = Barrier::new(self.threads.len() + 1);
        let over = AtomicBool::new(false);
        let fs = &real.fs;
        let events = std::thread::scope(|scope| {
            let work = |deeds, name| {
                let (clock, start) = (&clock, &start);
                scope.spawn(move || thread(fs, name, deeds, clock, start))
            };
            let running: Vec<_> =
                self.threads.iter().zip(&names).map(|(deeds, name)| work(deeds, name)).collect();
            let trouble = self.trouble.then(|| scope.spawn(|| trouble(real, &over)));
            start.wait();
            let events: Result<Vec<_>, _> = running.into_iter().map(|one| one.join().unwrap()).collect();
            over.store(true, Ordering::SeqCst);
            trouble.map_or(Ok(()), |trouble| trouble.join().unwrap())?;
            events
        })?;
        real.keys.set_suspended(false);
        real.fs.resume();
        let events = events.concat();
        let after = contents(&real.fs, id)?;
        fs.release(id);
        if contents_by_name(&real.observer(), &names[0])? != after {
            return Err("the storage holds other bytes than the one who serves it says".into());
        }
        if explained(&before, &events, &after) {
            return Ok(());
        }
        Err(format!("no order explains {} that left {}", told(&events), runs(&after)))
    }
}

/// The file, open once, and a name of it for each thread.
fn prepare(
    real: &mut Real,
    round: usize,
    threads: usize,
    before: &[u8],
) -> Result<(u64, Vec<String>), String> {
    let names: Vec<_> = (0..threads).map(|thread| format!("{round}-{thread}")).collect();
    let how = OpenHow { write: true, ..OpenHow::default() };
    let mode = NewMode { mode: 0o600, umask: 0 };
    let entry = real.fs.create(ROOT, &cstr(&names[0]), mode, me(), true, how).map_err(said)?;
    for name in &names[1..] {
        real.fs.link(entry.id, ROOT, &cstr(name)).map_err(said)?;
    }
    if !before.is_empty() {
        real.fs.write(entry.id, 0, before, WriteHow::default(), &mut real.scratch).map_err(said)?;
    }
    Ok((entry.id, names))
}

fn thread(
    fs: &EncryptedFs,
    name: &str,
    deeds: &[Deed],
    clock: &AtomicU64,
    start: &Barrier,
) -> Result<Vec<Event>, String> {
    let mut scratch = Scratch::new();
    let id = fs.lookup(ROOT, &cstr(name)).map_err(said)?.id;
    // Keys may be away at this moment.
    let opened = loop {
        match fs.open(id, OpenHow { write: true, ..OpenHow::default() }) {
            Err(error) if error.errno() == libc::ENOKEY => std::thread::yield_now(),
            other => break other,
        }
    };
    start.wait();
    opened.map_err(said)?;
    let mut events = Vec::new();
    for deed in deeds {
        let begin = clock.fetch_add(1, Ordering::SeqCst);
        let result = perform(fs, id, deed, &mut scratch);
        let end = clock.fetch_add(1, Ordering::SeqCst);
        let seen = match result {
            Ok(seen) => seen,
            Err(error) if error.errno() == libc::ENOKEY => Seen::Refused,
            Err(error) => return Err(format!("{deed:?}: {error}, errno {}", error.errno())),
        };
        events.push(Event { deed: deed.clone(), seen, begin, end });
    }
    fs.release(id);
    Ok(events)
}

fn perform(fs: &EncryptedFs, id: u64, deed: &Deed, scratch: &mut Scratch) -> Result<Seen, FsError> {
    match *deed {
        Deed::Write { at, len, fill } => {
            let bytes = vec![fill; len as usize];
            fs.write(id, at, &bytes, WriteHow::default(), scratch).map(|_| Seen::Done)
        }
        Deed::Read { at, len } => {
            fs.read(id, at, len as usize, scratch).map(|bytes| Seen::Bytes(bytes.to_vec()))
        }
        Deed::Truncate { size } => {
            let change = SetAttr { size: Some(size), ..SetAttr::default() };
            fs.setattr(id, &change).map(|_| Seen::Done)
        }
        Deed::Size => fs.getattr(id).map(|attr| Seen::Size(attr.size)),
        Deed::Punch { at, len } => {
            fs.fallocate(id, Allocation::Punch.flags(), (at, len), false, scratch).map(|()| Seen::Done)
        }
        Deed::Grow { at, len } => {
            fs.fallocate(id, Allocation::Grow.flags(), (at, len), false, scratch).map(|()| Seen::Done)
        }
    }
}

/// Rotates, rewraps, suspends and resumes until the others are done.
fn trouble(real: &Real, over: &AtomicBool) -> Verdict {
    let mut version = 1;
    while !over.load(Ordering::SeqCst) {
        version += 1;
        real.keys.rotate(&version.to_string());
        // A header that is being made is not whole: a sweep comes by again.
        match real.rewrap() {
            Err(why) if why != HALF_MADE => return Err(why),
            _ => {}
        }
        real.keys.set_suspended(true);
        let done = real.fs.suspend();
        real.keys.set_suspended(false);
        real.fs.resume();
        if !done.quiet {
            return Err("a suspension did not become quiet".into());
        }
    }
    Ok(())
}

fn contents(fs: &EncryptedFs, id: u64) -> Result<Vec<u8>, String> {
    let mut scratch = Scratch::new();
    Ok(fs.read(id, 0, MAX_IO, &mut scratch).map_err(said)?.to_vec())
}

fn contents_by_name(fs: &EncryptedFs, name: &str) -> Result<Vec<u8>, String> {
    let id = fs.lookup(ROOT, &cstr(name)).map_err(said)?.id;
    fs.open(id, OpenHow::default()).map_err(said)?;
    let found = contents(fs, id);
    fs.release(id);
    found
}

fn told(events: &[Event]) -> String {
    let one = |event: &Event| {
        let seen = match &event.seen {
            Seen::Bytes(bytes) => runs(bytes),
            other => format!("{other:?}"),
        };
        format!("\n  {}..{} {:?} -> {seen}", event.begin, event.end, event.deed)
    };
    events.iter().map(one).collect()
}

/// Bytes as runs of equal ones.
fn runs(bytes: &[u8]) -> String {
    let runs: Vec<_> =
        bytes.chunk_by(|a, b| a == b).map(|run| format!("{}×{:x}", run.len(), run[0])).collect();
    format!("[{}]", runs.join(" "))
}
