//! One workload: run, crashed at each of its operations on the storage, looked at in each state.
//!
//! Invariant: a violation names the workload, the place and the state, so that it can be found again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::disk::{Bench, Image, Recording};
use crate::oracle::{Model, Span, check, written};
use crate::states::{Crash, lay};
use crate::table::Counts;
use crate::work::{App, Kind, Op, Volume, start, text};

/// A thread's storage, a volume, and the image from which workloads begin.
pub struct Explorer {
    pub(crate) bench: Bench,
    pub(crate) volume: Volume,
    base: Image,
    /// About so many states of each crash.
    most: usize,
}

/// A state that is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What kind of volume it is.
    pub kind: Kind,
    /// The workload.
    pub ops: Vec<Op>,
    /// Operations of the storage before the crash.
    pub at: usize,
    /// The number of the state.
    pub state: usize,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, ops, at, state, why } = self;
        write!(formatter, "COFFERDAM_CRASH='{kind}{}': operation {at}, state {state}: {why}", text(ops))
    }
}

/// A workload that was run.
struct Run {
    recording: Recording,
    spans: Vec<Span>,
    model: Model,
}

impl Explorer {
    /// `None`, loudly, where nothing can be mounted.
    pub fn new(volume: Volume, most: usize) -> Option<Self> {
        let bench = Bench::new()?;
        let base = start(&bench.mount, &volume);
        Some(Self { bench, volume, base, most })
    }

    /// Runs a workload and looks at the crashes within `ops[from..]`; the first state that is wrong ends it.
    pub fn explore(&self, ops: &[Op], from: usize, counts: &mut Counts) -> Result<(), Violation> {
        let wrong = |at, state, why| self.violation(ops, at, state, why);
        let run = self.run(ops).map_err(|why| wrong(0, 0, why))?;
        let log = &run.recording.log;
        let first = run.spans[from].0;
        counts.workloads += 1;
        counts.operations += (log.len() - first) as u64;
        let mut seen = HashSet::new();
        for at in first..=log.len() {
            let expect = run.model.expect(&run.spans, at);
            let crash = Crash::new(&run.recording.base, &log[..at], self.most);
            let killed = run.model.expect_killed(&run.spans, at);
            // The first state is also what a killed process leaves.
            let all = [(0, &killed)].into_iter().chain((0..crash.len()).map(|number| (number, &expect)));
            for (number, expect) in all {
                counts.states += 1;
                let state = crash.state(number);
                let mut hasher = DefaultHasher::new();
                (state.digest, expect).hash(&mut hasher);
                if !seen.insert(hasher.finish()) {
                    continue;
                }
                counts.distinct += 1;
                let result = self.look(&state.image, |dir| check(&self.volume, dir, &run.model, expect));
                result.map_err(|why| wrong(at, number, why))?;
            }
        }
        Ok(())
    }

    /// The smallest workload that is still wrong: operations are left out one by one.
    pub fn shrink(&self, violation: Violation) -> Violation {
        let mut smallest = violation;
        let mut at = 0;
        while at < smallest.ops.len() {
            let mut ops = smallest.ops.clone();
            ops.remove(at);
            let mut model = Model::start();
            let feasible = !ops.is_empty() && ops.iter().enumerate().all(|(at, op)| model.apply(*op, at));
            match feasible.then(|| self.explore(&ops, 0, &mut Counts::default())) {
                Some(Err(smaller)) => (smallest, at) = (smaller, 0),
                _ => at += 1,
            }
        }
        smallest
    }

    /// Runs `look` on a directory that holds `image`.
    pub(crate) fn look(
        &self,
        image: &Image,
        look: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let dir = self.bench.states.join("state");
        lay(image, &dir);
        let result = look(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        result
    }

    /// A volume as workloads find it: its number, and who uses it.
    pub(crate) fn begin(&self) -> Result<(u64, App), String> {
        self.volume.keys.rotate("1");
        let (number, dir) = self.bench.mount.add(self.base.clone());
        let app = self.volume.serve(dir).map_err(|error| format!("serve: {error:?}"))?;
        Ok((number, app))
    }

    pub(crate) fn violation(&self, ops: &[Op], at: usize, state: usize, why: String) -> Violation {
        Violation { kind: self.volume.kind(), ops: ops.to_vec(), at, state, why }
    }

    fn run(&self, ops: &[Op]) -> Result<Run, String> {
        let mut model = Model::start();
        let (number, mut app) = self.begin()?;
        let mut spans = Vec::new();
        let mut result = Ok(());
        for (at, op) in ops.iter().enumerate() {
            assert!(model.apply(*op, at), "{op} is not feasible in {}", text(ops));
            if let Op::Sweep(_) = op {
                // The sweep begins each batch with one.
                self.bench.mount.synced_all(number);
            }
            let begin = self.bench.mount.operations(number);
            let done = app.run(*op, &written(*op, at));
            if *op == Op::Sync && done.is_ok() {
                self.bench.mount.synced_all(number);
            }
            if let Err(error) = done {
                result = Err(format!("{op}: {error:?}"));
                break;
            }
            spans.push((begin, self.bench.mount.operations(number)));
        }
        drop(app);
        let recording = self.bench.mount.remove(number);
        result.map(|()| Run { recording, spans, model })
    }
}
