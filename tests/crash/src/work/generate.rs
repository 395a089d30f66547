//! The workloads: every sequence of one, two and three operations, with every kind of sync between them and two orders of
//! syncs behind them, after ACE (the generator of CrashMonkey).
//!
//! Invariant: crash points are looked at once: those within the last operation of a sequence and the syncs behind it. Those
//! before are the crash points of a shorter sequence, which is generated too.

use super::op::{Op, Path};
use crate::oracle::Model;

/// How many workloads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// As many as fit in each run of the tests.
    Quick,
    /// All.
    Complete,
}

/// A workload, and where its own crash points begin.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The operations.
    pub ops: Vec<Op>,
    /// The first operation whose crash points are its own.
    pub from: usize,
    /// How many of the operations are no syncs.
    pub depth: usize,
}

/// Operations of sequences of one, and in the complete set of two.
const ALL: &[Op] = &[
    Op::Create("B"),
    Op::Create("d/D"),
    Op::Append("A", 100),
    Op::Append("A", 9000),
    Op::Append("d/C", 5000),
    Op::Append("B", 100),
    Op::Append("B", 9000),
    Op::Append("d/D", 5000),
    Op::Write("A", 10, 50),
    Op::Write("A", 4000, 200),
    Op::Write("A", 0, 4048),
    Op::Write("A", 100, 8096),
    Op::Write("A", 20_000, 100),
    Op::Write("d/C", 0, 100),
    Op::Write("d/C", 13_000, 100),
    Op::Write("B", 5000, 100),
    Op::Size("A", 0),
    Op::Size("A", 50),
    Op::Size("A", 4048),
    Op::Size("A", 4100),
    Op::Size("A", 8150),
    Op::Size("A", 9000),
    Op::Size("A", 20_000),
    Op::Size("d/C", 0),
    Op::Size("d/C", 3000),
    Op::Size("B", 5000),
    Op::Allocate("A", 8000, 6000),
    Op::Allocate("d/C", 0, 50),
    Op::Allocate("B", 0, 6000),
    Op::Punch("A", 4048, 4048),
    Op::Punch("A", 100, 8000),
    Op::Punch("A", 0, 8096),
    Op::Zero("A", 100, 8000),
    Op::Zero("A", 5000, 9000),
    Op::Zero("d/C", 50, 100),
    Op::Rename("A", "B"),
    Op::Rename("A", "d/C"),
    Op::Rename("A", "d/D"),
    Op::Rename("d/C", "A"),
    Op::Rename("B", "A"),
    Op::Rename("d/D", "d/C"),
    Op::Rename("d", "e"),
    Op::RenameOpen("A", "d/C"),
    Op::RenameOpen("B", "A"),
    Op::Exchange("A", "d/C"),
    Op::Exchange("A", "B"),
    Op::Link("A", "B"),
    Op::Link("d/C", "B"),
    Op::Link("A", "d/D"),
    Op::Unlink("A"),
    Op::Unlink("B"),
    Op::Unlink("d/C"),
    Op::UnlinkOpen("A"),
    Op::UnlinkOpen("B"),
    Op::Mkdir("e"),
    Op::Mkdir("d/e"),
    Op::Rmdir("e"),
    Op::Symlink("s"),
    Op::Unlink("s"),
    Op::SetXattr("A"),
    Op::SetXattr("d/C"),
    Op::RemoveXattr("d/C"),
    Op::Rewrap("A"),
    Op::Rewrap("d/C"),
    Op::Rewrap("B"),
    Op::Sweep("A"),
];

/// One or two of each kind: of sequences of two in each run, and of three in the complete set.
const SOME: &[Op] = &[
    Op::Create("B"),
    Op::Append("A", 100),
    Op::Append("A", 9000),
    Op::Append("B", 5000),
    Op::Write("A", 4000, 200),
    Op::Write("A", 20_000, 100),
    Op::Size("A", 0),
    Op::Size("A", 50),
    Op::Size("A", 4100),
    Op::Size("A", 20_000),
    Op::Allocate("A", 8000, 6000),
    Op::Punch("A", 100, 8000),
    Op::Zero("A", 5000, 9000),
    Op::Rename("A", "d/C"),
    Op::Rename("B", "A"),
    Op::RenameOpen("B", "A"),
    Op::Link("A", "B"),
    Op::Unlink("A"),
    Op::UnlinkOpen("A"),
    Op::Mkdir("e"),
    Op::SetXattr("A"),
    Op::Rewrap("A"),
    Op::Sweep("A"),
];

/// Operations of sequences of three in each run: what changes a file's blocks, its header, its size or its name.
const FEW: &[Op] = &[
    Op::Create("B"),
    Op::Append("A", 5000),
    Op::Append("B", 5000),
    Op::Write("A", 4000, 200),
    Op::Size("A", 0),
    Op::Size("A", 4100),
    Op::Size("A", 20_000),
    Op::Punch("A", 100, 8000),
    Op::Rename("B", "A"),
    Op::Link("A", "B"),
    Op::UnlinkOpen("A"),
    Op::Rewrap("A"),
    Op::Sweep("A"),
];

/// Operations of sequences of so many.
fn ops(depth: usize, bounds: Bounds) -> &'static [Op] {
    match (depth, bounds) {
        (1, _) | (2, Bounds::Complete) => ALL,
        (2, Bounds::Quick) | (_, Bounds::Complete) => SOME,
        (_, Bounds::Quick) => FEW,
    }
}

/// All operations that there are in workloads.
#[cfg(test)]
pub fn all_ops(bounds: Bounds) -> Vec<Op> {
    (1..=3).flat_map(|depth| ops(depth, bounds)).copied().collect()
}

/// All workloads with exactly `depth` operations besides syncs.
pub fn sequences(depth: usize, bounds: Bounds) -> Vec<Sequence> {
    let mut found = Vec::new();
    extend(&mut found, &[], depth, depth, bounds);
    found
}

fn extend(found: &mut Vec<Sequence>, before: &[Op], left: usize, depth: usize, bounds: Bounds) {
    for op in ops(depth, bounds) {
        let ops = [before, &[*op]].concat();
        let Some(model) = feasible(&ops) else { continue };
        if left == 1 {
            let tails = tails(*op, &model);
            found.extend(tails.into_iter().map(|tail| Sequence {
                ops: [&ops[..], &tail].concat(),
                from: ops.len() - 1,
                depth,
            }));
            continue;
        }
        extend(found, &ops, left - 1, depth, bounds);
        for sync in between(*op, &model, depth, bounds) {
            extend(found, &[&ops[..], &[sync]].concat(), left - 1, depth, bounds);
        }
    }
}

fn feasible(ops: &[Op]) -> Option<Model> {
    let mut model = Model::start();
    ops.iter().enumerate().all(|(at, op)| model.apply(*op, at)).then_some(model)
}

/// Syncs that may follow an operation in the middle of a sequence.
fn between(op: Op, model: &Model, depth: usize, bounds: Bounds) -> Vec<Op> {
    let file = synced_file(op, model);
    let dir = Op::SyncDir(parent(op));
    match (depth, bounds) {
        (3, Bounds::Quick) => file.map(Op::Fdatasync).into_iter().collect(),
        (3, Bounds::Complete) => file.map(Op::Fdatasync).into_iter().chain([Op::Sync]).collect(),
        _ => file.map(Op::Fdatasync).into_iter().chain([dir, Op::Sync]).collect(),
    }
}

/// Two orders of syncs behind the last operation: the file first, and names first.
fn tails(op: Op, model: &Model) -> Vec<Vec<Op>> {
    let dir = Op::SyncDir(parent(op));
    match synced_file(op, model) {
        Some(file) => {
            vec![vec![Op::Fdatasync(file), Op::Fsync(file), dir, Op::Sync], vec![dir, Op::Fsync(file)]]
        }
        None => vec![vec![dir, Op::Sync]],
    }
}

fn synced_file(op: Op, model: &Model) -> Option<Path> {
    op.file().filter(|path| model.contents(path).is_some())
}

/// The directory of what an operation changed.
fn parent(op: Op) -> Path {
    match op.file() {
        Some("d/C" | "d/D" | "d/e") => "d",
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::text;

    #[test]
    fn each_sequence_is_there_once_and_is_feasible() {
        for depth in 1..=2 {
            let sequences = sequences(depth, Bounds::Quick);
            let texts: std::collections::HashSet<String> =
                sequences.iter().map(|one| text(&one.ops)).collect();
            assert_eq!(texts.len(), sequences.len());
            assert!(sequences.iter().all(|one| feasible(&one.ops).is_some()));
        }
    }
}
