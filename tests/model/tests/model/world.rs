//! Both filesystems side by side: a step is done in each, and the results are compared.
//!
//! Invariant: a step that chooses among nothing (no handle is open) does nothing in either.

use std::collections::BTreeMap;

use sidecar::fs::{FsError, SetAttr};

use crate::compare;
use crate::real::{Make, Real, is_root, me};
use crate::reference::{NodeId, Outcome, Reference};
use crate::steps::Step;

/// Handles at once, at most.
const HANDLES: usize = 8;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

pub struct Handle {
    pub node: NodeId,
    pub id: u64,
    pub number: u64,
    pub write: bool,
}

pub struct World {
    pub real: Real,
    pub reference: Reference,
    pub handles: Vec<Handle>,
    pub native: bool,
    /// The name of the step that is done now.
    kind: String,
    /// How often each kind of step did something, and how often it was refused.
    pub tally: Tally,
}

/// By the step's name and the outcome, `None` for a success.
pub type Tally = BTreeMap<(String, Option<i32>), u32>;
pub type Verdict = Result<(), String>;

impl World {
    pub fn make(make: Make) -> Self {
        let real = Real::make(make);
        let root = real.fs.getattr(sidecar::fs::ROOT).unwrap();
        let reference = Reference::new(root.mode & 0o7777, root.uid, root.gid);
        let native = make.ownership == envelope::Ownership::Native;
        Self { real, reference, handles: Vec::new(), native, kind: String::new(), tally: Tally::new() }
    }

    /// Does all steps; after each, everything is compared.
    pub fn run(&mut self, steps: &[Step]) -> Verdict {
        for (number, step) in steps.iter().enumerate() {
            let told = |what: String| format!("step {number}, {step:?}: {what}");
            let text = format!("{step:?}");
            text.split([' ', '{']).next().unwrap_or_default().clone_into(&mut self.kind);
            self.step(step).map_err(told)?;
            self.real.forget(&self.reference, false);
            compare::live(self).map_err(told)?;
            compare::stored(self).map_err(told)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Verdict {
        match step.clone() {
            Step::Suspend => self.suspend(),
            Step::Resume => {
                self.real.keys.set_suspended(false);
                self.real.fs.resume();
                self.reference.suspended = false;
                Ok(())
            }
            Step::Rotate => {
                self.real.rotate();
                Ok(())
            }
            // A job that may not unwrap can rewrap while keys are withheld; the one in memory cannot.
            Step::Rewrap if self.reference.suspended => Ok(()),
            Step::Rewrap => {
                self.real.rewrap()?;
                self.real.fs.seal_closed();
                Ok(())
            }
            Step::Forget => {
                self.real.fs.seal_closed();
                self.real.forget(&self.reference, true);
                Ok(())
            }
            Step::Remount { killed } => {
                self.remount(killed);
                Ok(())
            }
            other if self.name_step(&other)? => Ok(()),
            other => self.data_step(&other),
        }
    }

    fn suspend(&mut self) -> Verdict {
        self.real.keys.set_suspended(true);
        let done = self.real.fs.suspend();
        self.reference.suspended = true;
        if done.quiet && done.forgotten && done.synced { Ok(()) } else { Err(format!("{done:?}")) }
    }

    fn remount(&mut self, killed: bool) {
        for handle in self.handles.drain(..) {
            if !killed {
                self.real.fs.release(handle.id);
            }
            self.reference.nodes[handle.node].opens = 0;
        }
        let suspended = self.reference.suspended;
        self.real.restart();
        if suspended {
            self.real.fs.suspend();
        }
    }

    pub fn handle(&self, number: u8) -> Option<usize> {
        (!self.handles.is_empty()).then(|| usize::from(number) % self.handles.len())
    }

    pub fn add_handle(&mut self, node: NodeId, id: u64, write: bool) {
        self.reference.nodes[node].opens += 1;
        self.handles.push(Handle { node, id, number: self.real.fs.new_handle(), write });
        if self.handles.len() > HANDLES {
            self.close(0);
        }
    }

    pub fn close(&mut self, at: usize) {
        let handle = self.handles.remove(at);
        self.real.fs.release(handle.id);
        self.reference.nodes[handle.node].opens -= 1;
    }

    /// A size change takes privileges away by itself where this process may not keep them.
    pub fn set_attr(&mut self, node: NodeId, change: &SetAttr) -> Result<Outcome<sidecar::fs::Attr>, String> {
        let id = self.real.id(&self.reference, node)?;
        Ok(errno(self.real.fs.setattr(id, change)))
    }

    /// Modes that this process can still work with, and that the storage gives it.
    pub fn usable(&self, mode: u32, is_dir: bool) -> u32 {
        if is_root() || !self.native {
            return mode;
        }
        (mode & 0o777) | if is_dir { 0o700 } else { 0o600 }
    }
}

/// Who new objects belong to.
pub fn owner() -> (u32, u32) {
    (me().uid, me().gid)
}

/// One name in sixteen is hidden, in the root or everywhere.
pub fn name(number: u8) -> &'static str {
    match number {
        250.. => ".cofferdam-x",
        245..250 => "lost+found",
        _ => NAMES[usize::from(number) % NAMES.len()],
    }
}

impl World {
    /// Both said the same.
    pub fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        expected: &Outcome<T>,
        found: &Outcome<T>,
    ) -> Verdict {
        same(expected, found)?;
        let key = (self.kind.clone(), found.as_ref().err().copied());
        *self.tally.entry(key).or_default() += 1;
        Ok(())
    }
}

pub fn errno<T>(result: Result<T, FsError>) -> Outcome<T> {
    result.map_err(|error| error.errno())
}

fn same<T: PartialEq + std::fmt::Debug>(expected: &Outcome<T>, found: &Outcome<T>) -> Verdict {
    if expected == found {
        return Ok(());
    }
    let short = |outcome: &Outcome<T>| {
        let text = format!("{outcome:?}");
        text.chars().take(200).collect::<String>()
    };
    Err(format!("expected {}, found {}", short(expected), short(found)))
}
