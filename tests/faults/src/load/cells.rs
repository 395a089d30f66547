//! Overwrites in place, with versions, as a database's pages. Two of these share a file, through two hard links.
//!
//! Invariant: each block, or each cell where the two share a block, is as it was at one moment since its last promise: old
//! or new, never a mixture, never older than promised.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;

use super::{Actor, Findings, Post, bytes};
use crate::dice::pattern;

/// Bytes of plaintext in a block.
const BLOCK: usize = 4048;
/// Cells in a block.
const CELLS: usize = 8;
const CELL: usize = BLOCK / CELLS;
/// Blocks in each of the three parts: of the one, of the other, of both.
const PART: usize = 16;
/// The file.
const FILE: &str = "pages";

/// What is old or new at once: a block, or one cell of it.
struct Unit {
    first: usize,
    /// The versions of its cells, from the last promise on.
    states: Vec<Vec<u64>>,
}

/// See the module.
pub struct Cells {
    post: Post,
    lane: usize,
    open: Option<File>,
    units: Vec<Unit>,
}

impl Cells {
    /// The first or the second of two.
    pub fn new(post: Post, lane: usize) -> Result<Self> {
        let (file, link) = (post.dir.join(FILE), post.dir.join("link"));
        if lane == 0 {
            let whole: Vec<u8> = (0..3 * PART * CELLS).flat_map(|cell| contents(cell, 0)).collect();
            std::fs::write(&file, whole)?;
            std::fs::hard_link(&file, &link)?;
        }
        let own = (PART * (1 + lane)..PART * (2 + lane)).map(|block| (block * CELLS, CELLS));
        let shared = (0..PART * CELLS).filter(|cell| cell % 2 == lane).map(|cell| (cell, 1));
        let unit = |(first, cells)| Unit { first, states: vec![vec![0; cells]] };
        let units = own.chain(shared).map(unit).collect();
        Ok(Self { post, lane, open: None, units })
    }

    fn path(&self) -> PathBuf {
        self.post.dir.join(if self.lane == 0 { FILE } else { "link" })
    }

    /// Gives some cells, or whole blocks in a row, their next version.
    fn overwrite(&mut self) -> io::Result<()> {
        let path = self.path();
        let file = match &self.open {
            Some(file) => file,
            None => self.open.insert(OpenOptions::new().write(true).open(path)?),
        };
        let dice = &mut self.post.dice;
        let unit = dice.below(self.units.len());
        let wide = unit < PART && dice.chance(50);
        let units = if wide { unit..PART.min(unit + 1 + dice.below(6)) } else { unit..unit + 1 };
        let mut data = Vec::new();
        let mut first = self.units[units.start].first;
        for unit in &mut self.units[units.clone()] {
            let mut state = unit.states.last().cloned().unwrap_or_default();
            let only = (!wide && state.len() > 1).then(|| dice.below(state.len()));
            for (index, version) in state.iter_mut().enumerate() {
                if only.is_none_or(|only| only == index) {
                    *version += 1;
                    data.extend(contents(unit.first + index, *version));
                }
            }
            first += only.unwrap_or(0);
            unit.states.push(state);
        }
        file.write_all_at(&data, (first * CELL) as u64)?;
        if self.post.acknowledged() {
            self.units[units].iter_mut().for_each(Unit::promise);
        }
        Ok(())
    }
}

impl Unit {
    /// What was written last is promised.
    fn promise(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// Which of the states `bytes` are.
    fn state_of(&self, bytes: &[u8]) -> Option<usize> {
        self.states.iter().rposition(|state| {
            let mut cells = state.iter().enumerate();
            cells.all(|(index, version)| {
                bytes[index * CELL..(index + 1) * CELL] == contents(self.first + index, *version)
            })
        })
    }
}

fn contents(cell: usize, version: u64) -> Vec<u8> {
    pattern((cell as u64) << 32 | version, CELL)
}

impl Actor for Cells {
    fn step(&mut self) -> io::Result<()> {
        for _ in 0..=self.post.dice.below(6) {
            self.overwrite()?;
        }
        if self.post.dice.chance(50)
            && let Some(file) = &self.open
        {
            file.sync_data()?;
            self.post.synced()?;
            self.units.iter_mut().for_each(Unit::promise);
        }
        Ok(())
    }

    fn rest(&mut self) {
        self.open = None;
    }

    fn check(&mut self, findings: &mut Findings) {
        let path = self.path();
        let found = match bytes::read(&path) {
            Ok(Some(found)) if found.len() == 3 * PART * BLOCK => found,
            Ok(other) => {
                let len = other.map(|found| found.len());
                return findings.promise(Some(format!("{}: has {len:?} bytes", path.display())));
            }
            Err(problem) => return findings.promise(Some(problem)),
        };
        for unit in &mut self.units {
            let start = unit.first * CELL;
            let bytes = &found[start..start + unit.states[0].len() * CELL];
            let Some(at) = unit.state_of(bytes) else {
                let problem =
                    format!("{}: cell {} is of no state since its promise", path.display(), unit.first);
                findings.promise(Some(problem));
                continue;
            };
            findings.promise(None);
            findings.undone += u64::from(at + 1 < unit.states.len());
            unit.states = vec![unit.states.swap_remove(at)];
        }
    }
}
