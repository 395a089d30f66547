//! Appends to a log, as a database does. Invariant: what was synced is there byte for byte; behind it each byte is as
//! written, or zero, or cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;

use super::{Actor, Findings, Post, bytes};
use crate::dice::pattern;

/// When the log is full and the next one begins.
const FULL: usize = 1 << 20;

/// See the module.
pub struct Journal {
    post: Post,
    number: u64,
    /// Appended to since the last rest.
    open: Option<File>,
    written: Vec<u8>,
    promised: usize,
    /// The log before, which is whole.
    before: Option<(PathBuf, Vec<u8>)>,
}

impl Journal {
    pub fn new(post: Post) -> Result<Self> {
        let mut journal =
            Self { post, number: 0, open: None, written: Vec::new(), promised: 0, before: None };
        journal.begin()?;
        Ok(journal)
    }

    fn path(&self) -> PathBuf {
        self.post.dir.join(format!("log-{}", self.number))
    }

    /// An empty log, durable.
    fn begin(&mut self) -> io::Result<()> {
        File::create(self.path())?.sync_all()?;
        bytes::sync_dir(&self.post.dir)?;
        self.post.synced()
    }

    fn append(&mut self) -> io::Result<()> {
        let path = self.path();
        let file = match &mut self.open {
            Some(file) => file,
            None => self.open.insert(OpenOptions::new().append(true).open(path)?),
        };
        let data = pattern(self.post.dice.roll(), 1 + self.post.dice.below(6000));
        self.written.extend_from_slice(&data);
        file.write_all(&data)?;
        if self.post.acknowledged() {
            self.promised = self.written.len();
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.open else { return Ok(()) };
        if self.post.dice.chance(50) {
            file.sync_data()?;
        } else {
            file.sync_all()?;
        }
        self.post.synced()?;
        self.promised = self.written.len();
        Ok(())
    }

    /// The next log; the one before the last goes.
    fn turn(&mut self) -> io::Result<()> {
        self.sync()?;
        self.open = None;
        let full = (self.path(), std::mem::take(&mut self.written));
        self.number += 1;
        self.promised = 0;
        let older = self.before.replace(full);
        self.begin()?;
        older.map_or(Ok(()), |(path, _)| std::fs::remove_file(path))
    }
}

impl Actor for Journal {
    fn step(&mut self) -> io::Result<()> {
        for _ in 0..=self.post.dice.below(4) {
            self.append()?;
        }
        if self.post.dice.chance(70) {
            self.sync()?;
        }
        if self.written.len() > FULL { self.turn() } else { Ok(()) }
    }

    fn rest(&mut self) {
        self.open = None;
    }

    fn check(&mut self, findings: &mut Findings) {
        if let Some((path, whole)) = &self.before {
            let problem = match bytes::read(path) {
                Ok(Some(found)) => bytes::problem(path, &found, whole, whole.len()),
                Ok(None) => Some(format!("{}: is gone", path.display())),
                Err(problem) => Some(problem),
            };
            findings.promise(problem);
        }
        let path = self.path();
        let found = match bytes::read(&path) {
            Ok(found) => found,
            Err(problem) => return findings.promise(Some(problem)),
        };
        // A log that was just begun may not be there yet.
        let may_be_gone = self.written.is_empty();
        if found.is_none() && !may_be_gone {
            findings.broken.push(format!("{}: is gone", path.display()));
        }
        let found = found.unwrap_or_default();
        findings.promise(bytes::problem(&path, &found, &self.written, self.promised));
        findings.undone += u64::from(found.len() < self.written.len());
        self.promised = found.len();
        self.written = found;
        if may_be_gone && let Err(error) = self.begin() {
            findings.broken.push(format!("{}: cannot be begun: {error}", path.display()));
        }
    }
}
