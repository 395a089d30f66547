//! A load of several threads on a directory, and what it was promised.
//!
//! Invariant: a thread notes a change before it asks for it, and a promise only after the call that gives it has returned.
//! Each thread has files of its own, or cells of its own in a shared file, so that it alone knows what they may hold.

mod bytes;
mod cells;
mod journal;
mod loose;
mod names;
mod reader;
mod sizes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::dice::Dice;

/// What is a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// What a sync was asked for, as after a power cut.
    Synced,
    /// Every call that returned, as after the end of a server that writes through.
    Acknowledged,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Promises that were broken, and garbage.
    pub broken: Vec<String>,
    /// Promises that were looked at.
    pub kept: u64,
    /// Changes that nobody had promised, and that are not there.
    pub undone: u64,
    /// Threads whose request was under way when the server ended.
    pub in_flight: u64,
}

impl Findings {
    /// One more promise, which was kept if `problem` is `None`.
    pub fn promise(&mut self, problem: Option<String>) {
        match problem {
            None => self.kept += 1,
            Some(problem) => self.broken.push(problem),
        }
    }

    /// Adds those of another check.
    pub fn add(&mut self, other: Self) {
        self.broken.extend(other.broken);
        self.kept += other.kept;
        self.undone += other.undone;
        self.in_flight += other.in_flight;
    }
}

/// One thread of the load.
trait Actor: Send {
    /// A few changes, mostly with the syncs that make them durable. An error ends it.
    fn step(&mut self) -> std::io::Result<()>;

    /// Closes what it has open.
    fn rest(&mut self) {}

    /// Compares what is there with the promises. What was found is what the next round begins with.
    fn check(&mut self, findings: &mut Findings);
}

/// What each actor knows.
#[derive(Clone, Debug)]
struct Post {
    dir: PathBuf,
    dice: Dice,
    promise: Promise,
    breaking: Arc<AtomicBool>,
}

impl Post {
    fn acknowledged(&self) -> bool {
        self.promise == Promise::Acknowledged
    }

    /// A sync has returned. An error if that was no promise, because the power may have been gone by then: a filesystem
    /// that was shut down goes on answering for a moment, which a machine without power does not.
    fn synced(&self) -> std::io::Result<()> {
        let late = self.promise == Promise::Synced && self.breaking.load(Ordering::SeqCst);
        if late { Err(std::io::Error::other("the power is cut")) } else { Ok(()) }
    }
}

/// See the module.
pub struct Load {
    root: PathBuf,
    breaking: Arc<AtomicBool>,
    actors: Vec<Box<dyn Actor>>,
}

/// Told by the actors of a load that runs.
#[derive(Debug, Default)]
pub struct Under {
    breaking: Arc<AtomicBool>,
    over: AtomicBool,
    steps: AtomicU64,
}

impl Under {
    /// From now on an error is no surprise, and a sync is no promise.
    pub fn breaking(&self) {
        self.breaking.store(true, Ordering::SeqCst);
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }
}

impl Load {
    /// Makes the files of a load in the directory `root`, durable.
    pub fn set_up(root: &Path, seed: u64, promise: Promise) -> Result<Self> {
        let dice = Dice::new(seed);
        let breaking = Arc::<AtomicBool>::default();
        let post = |index: u64, name: &str| -> Result<Post> {
            let dir = root.join(name);
            std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
            Ok(Post { dir, dice: dice.child(index), promise, breaking: Arc::clone(&breaking) })
        };
        let actors: Vec<Box<dyn Actor>> = vec![
            Box::new(journal::Journal::new(post(0, "journal")?)?),
            Box::new(cells::Cells::new(post(1, "cells")?, 0)?),
            Box::new(cells::Cells::new(post(2, "cells")?, 1)?),
            Box::new(names::Names::new(post(3, "names")?)?),
            Box::new(sizes::Sizes::new(post(4, "sizes")?)?),
            Box::new(loose::Loose::new(post(5, "loose")?)),
            Box::new(reader::Reader::new(post(6, "still")?)?),
        ];
        rustix::fs::syncfs(std::fs::File::open(root).context("open the root")?).context("sync the load")?;
        Ok(Self { root: root.to_owned(), breaking, actors })
    }

    /// Runs all actors while `meanwhile` runs, which must break what is under them and say so before. An error or a broken
    /// promise before that is among the findings.
    pub fn run(&mut self, meanwhile: impl FnOnce(&Under) -> Result<()>) -> Result<Findings> {
        self.breaking.store(false, Ordering::SeqCst);
        let under = Under { breaking: Arc::clone(&self.breaking), ..Under::default() };
        let mut findings = Findings::default();
        let result = std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.actors.iter_mut().map(|actor| scope.spawn(|| act(actor.as_mut(), &under))).collect();
            let result = meanwhile(&under);
            under.breaking();
            under.over.store(true, Ordering::SeqCst);
            for thread in threads {
                match thread.join() {
                    Ok(end) => findings.add(end),
                    Err(_) => findings.broken.push("a thread of the load panicked".into()),
                }
            }
            result
        });
        result?;
        Ok(findings)
    }

    /// Checks all promises, and that everything there is can be read.
    pub fn check(&mut self) -> Findings {
        self.breaking.store(false, Ordering::SeqCst);
        let mut findings = Findings::default();
        for actor in &mut self.actors {
            actor.check(&mut findings);
        }
        bytes::read_all(&self.root, &mut findings);
        findings
    }
}

/// Steps until an error or the end.
fn act(actor: &mut dyn Actor, under: &Under) -> Findings {
    let result = loop {
        if under.over.load(Ordering::SeqCst) {
            break Ok(());
        }
        if let Err(error) = actor.step() {
            break Err(error);
        }
        under.steps.fetch_add(1, Ordering::SeqCst);
    };
    // Before the actor is done: what it closes may wait.
    let breaking = under.breaking.load(Ordering::SeqCst);
    actor.rest();
    let mut findings = Findings::default();
    if let Err(error) = result {
        // The kernel's word for a request that the server had; those that come later get another one.
        findings.in_flight += u64::from(error.raw_os_error() == Some(libc::ECONNABORTED));
        if !breaking {
            findings.broken.push(format!("before anything was broken: {error}"));
        }
    }
    findings
}
