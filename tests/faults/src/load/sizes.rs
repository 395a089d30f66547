//! One file that is made shorter and longer, punched and written anew. Invariant: each byte is one of those that it was
//! since the last promise; the file is no shorter than it ever was since, and no longer than the longest, rounded to a block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Actor, Findings, Post, bytes};
use crate::dice::pattern;

const BLOCK: usize = 4048;
/// The longest.
const MOST: usize = 10 * BLOCK;

/// See the module.
pub struct Sizes {
    post: Post,
    open: Option<File>,
    /// Contents, from the last promise on.
    states: Vec<Vec<u8>>,
}

impl Sizes {
    pub fn new(post: Post) -> Result<Self> {
        let contents = pattern(post.dice.clone().roll(), MOST);
        let sizes = Self { post, open: None, states: vec![contents] };
        std::fs::write(sizes.path(), &sizes.states[0])?;
        Ok(sizes)
    }

    fn path(&self) -> PathBuf {
        self.post.dir.join("file")
    }

    fn change(&mut self) -> io::Result<()> {
        let path = self.path();
        let file = match &self.open {
            Some(file) => file,
            None => self.open.insert(OpenOptions::new().write(true).open(path)?),
        };
        let dice = &mut self.post.dice;
        let mut state = self.states.last().cloned().unwrap_or_default();
        let from = dice.below(MOST);
        match dice.below(4) {
            0 => {
                state.resize(dice.below(MOST), 0);
                self.states.push(state.clone());
                file.set_len(state.len() as u64)?;
            }
            1 => {
                let end = (from + 1 + dice.below(3 * BLOCK)).min(state.len());
                state.get_mut(from..end).unwrap_or_default().fill(0);
                self.states.push(state);
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                match rustix::fs::fallocate(file, flags, from as u64, end.saturating_sub(from) as u64) {
                    // There is nothing to punch; or this filesystem, which is no promise of ours, cannot do it.
                    Err(Errno::INVAL | Errno::OPNOTSUPP) => drop(self.states.pop()),
                    other => other?,
                }
            }
            _ => {
                let data = pattern(dice.roll(), 1 + dice.below(MOST - from));
                state.resize(state.len().max(from + data.len()), 0);
                state[from..from + data.len()].copy_from_slice(&data);
                self.states.push(state);
                file.write_all_at(&data, from as u64)?;
            }
        }
        if self.post.acknowledged() {
            self.promise();
        }
        Ok(())
    }

    fn promise(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    fn problem(&self, found: &[u8]) -> Option<String> {
        let lengths = || self.states.iter().map(Vec::len);
        let (least, most) = (lengths().min()?, lengths().max()?.next_multiple_of(BLOCK));
        if found.len() < least || found.len() > most {
            return Some(format!("{} bytes, not between {least} and {most}", found.len()));
        }
        let fits = |at: usize, byte: u8| {
            let of_state = |state: &Vec<u8>| state.get(at).is_some_and(|written| *written == byte);
            self.states.iter().any(of_state) || (at >= least && byte == 0)
        };
        let wrong = found.iter().enumerate().find(|(at, byte)| !fits(*at, **byte));
        wrong.map(|(at, _)| format!("byte {at} of {} is of no state since its promise", found.len()))
    }
}

impl Actor for Sizes {
    fn step(&mut self) -> io::Result<()> {
        for _ in 0..=self.post.dice.below(3) {
            self.change()?;
        }
        if let Some(file) = &self.open {
            file.sync_all()?;
            self.post.synced()?;
            self.promise();
        }
        Ok(())
    }

    fn rest(&mut self) {
        self.open = None;
    }

    fn check(&mut self, findings: &mut Findings) {
        let path = self.path();
        let found = match bytes::read(&path) {
            Ok(Some(found)) => found,
            Ok(None) => return findings.promise(Some(format!("{}: is gone", path.display()))),
            Err(problem) => return findings.promise(Some(problem)),
        };
        let problem = self.problem(&found);
        findings.promise(problem.map(|problem| format!("{}: {problem}", path.display())));
        findings.undone += u64::from(self.states.last() != Some(&found));
        self.states = vec![found];
    }
}
