//! One operation of a workload.
//!
//! Invariant: what [`text`] prints, [`parse`] reads.

use std::fmt::{self, Display};

/// A path in the volume: at most one directory deep.
pub type Path = &'static str;

/// The paths that workloads use: four files in two directories, a third directory, a symbolic link.
const PATHS: [Path; 9] = ["/", "A", "B", "d", "d/C", "d/D", "e", "d/e", "s"];

/// An operation of an application, or one of ours on its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A new file.
    Create(Path),
    /// Bytes at the end.
    Append(Path, u64),
    /// Bytes at an offset.
    Write(Path, u64, u64),
    /// Another size.
    Size(Path, u64),
    /// `fallocate`.
    Allocate(Path, u64, u64),
    /// `fallocate` with `PUNCH_HOLE`.
    Punch(Path, u64, u64),
    /// `fallocate` with `ZERO_RANGE`.
    Zero(Path, u64, u64),
    /// `rename`, also over something.
    Rename(Path, Path),
    /// The same, while what is replaced is open.
    RenameOpen(Path, Path),
    /// Two names change places.
    Exchange(Path, Path),
    /// Another name.
    Link(Path, Path),
    /// A name goes.
    Unlink(Path),
    /// The same, while the file is open; then it is closed.
    UnlinkOpen(Path),
    /// A directory.
    Mkdir(Path),
    /// An empty directory goes.
    Rmdir(Path),
    /// A symbolic link.
    Symlink(Path),
    /// An extended attribute is set.
    SetXattr(Path),
    /// And removed.
    RemoveXattr(Path),
    /// The root key is rotated and the file opened, which rewraps its key.
    Rewrap(Path),
    /// A sweep rewraps the file's key; its batch is not synced yet.
    Sweep(Path),
    /// `fsync` of a file.
    Fsync(Path),
    /// `fdatasync` of a file.
    Fdatasync(Path),
    /// `fsync` of a directory.
    SyncDir(Path),
    /// `syncfs`.
    Sync,
}

impl Op {
    /// The file whose data it changes or creates, by the name that it has afterwards.
    pub fn file(self) -> Option<Path> {
        match self {
            Self::Create(path)
            | Self::Append(path, _)
            | Self::Write(path, ..)
            | Self::Size(path, _)
            | Self::Allocate(path, ..)
            | Self::Punch(path, ..)
            | Self::Zero(path, ..)
            | Self::Rename(_, path)
            | Self::RenameOpen(_, path)
            | Self::Exchange(_, path)
            | Self::Link(_, path)
            | Self::SetXattr(path)
            | Self::RemoveXattr(path)
            | Self::Rewrap(path)
            | Self::Sweep(path) => Some(path),
            _ => None,
        }
    }

    fn words(self) -> (&'static str, Vec<Path>, Vec<u64>) {
        match self {
            Self::Create(path) => ("create", vec![path], vec![]),
            Self::Append(path, len) => ("append", vec![path], vec![len]),
            Self::Write(path, at, len) => ("write", vec![path], vec![at, len]),
            Self::Size(path, len) => ("size", vec![path], vec![len]),
            Self::Allocate(path, at, len) => ("allocate", vec![path], vec![at, len]),
            Self::Punch(path, at, len) => ("punch", vec![path], vec![at, len]),
            Self::Zero(path, at, len) => ("zero", vec![path], vec![at, len]),
            Self::Rename(from, to) => ("rename", vec![from, to], vec![]),
            Self::RenameOpen(from, to) => ("rename-open", vec![from, to], vec![]),
            Self::Exchange(from, to) => ("exchange", vec![from, to], vec![]),
            Self::Link(from, to) => ("link", vec![from, to], vec![]),
            Self::Unlink(path) => ("unlink", vec![path], vec![]),
            Self::UnlinkOpen(path) => ("unlink-open", vec![path], vec![]),
            Self::Mkdir(path) => ("mkdir", vec![path], vec![]),
            Self::Rmdir(path) => ("rmdir", vec![path], vec![]),
            Self::Symlink(path) => ("symlink", vec![path], vec![]),
            Self::SetXattr(path) => ("set-xattr", vec![path], vec![]),
            Self::RemoveXattr(path) => ("remove-xattr", vec![path], vec![]),
            Self::Rewrap(path) => ("rewrap", vec![path], vec![]),
            Self::Sweep(path) => ("sweep", vec![path], vec![]),
            Self::Fsync(path) => ("fsync", vec![path], vec![]),
            Self::Fdatasync(path) => ("fdatasync", vec![path], vec![]),
            Self::SyncDir(path) => ("sync-dir", vec![path], vec![]),
            Self::Sync => ("sync", vec![], vec![]),
        }
    }
}

impl Display for Op {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, paths, numbers) = self.words();
        formatter.write_str(name)?;
        paths.iter().try_for_each(|path| write!(formatter, " {path}"))?;
        numbers.iter().try_for_each(|number| write!(formatter, " {number}"))
    }
}

/// A workload in one line.
pub fn text(ops: &[Op]) -> String {
    ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The workload that a line describes; `None` if it describes none.
pub fn parse(line: &str) -> Option<Vec<Op>> {
    line.split(';').map(|op| one(&op.split_whitespace().collect::<Vec<_>>())).collect()
}

fn one(words: &[&str]) -> Option<Op> {
    let path = |at: usize| PATHS.iter().copied().find(|path| words.get(at) == Some(path));
    let number = |at: usize| words.get(at)?.parse().ok();
    Some(match *words.first()? {
        "create" => Op::Create(path(1)?),
        "append" => Op::Append(path(1)?, number(2)?),
        "write" => Op::Write(path(1)?, number(2)?, number(3)?),
        "size" => Op::Size(path(1)?, number(2)?),
        "allocate" => Op::Allocate(path(1)?, number(2)?, number(3)?),
        "punch" => Op::Punch(path(1)?, number(2)?, number(3)?),
        "zero" => Op::Zero(path(1)?, number(2)?, number(3)?),
        "rename" => Op::Rename(path(1)?, path(2)?),
        "rename-open" => Op::RenameOpen(path(1)?, path(2)?),
        "exchange" => Op::Exchange(path(1)?, path(2)?),
        "link" => Op::Link(path(1)?, path(2)?),
        "unlink" => Op::Unlink(path(1)?),
        "unlink-open" => Op::UnlinkOpen(path(1)?),
        "mkdir" => Op::Mkdir(path(1)?),
        "rmdir" => Op::Rmdir(path(1)?),
        "symlink" => Op::Symlink(path(1)?),
        "set-xattr" => Op::SetXattr(path(1)?),
        "remove-xattr" => Op::RemoveXattr(path(1)?),
        "rewrap" => Op::Rewrap(path(1)?),
        "sweep" => Op::Sweep(path(1)?),
        "fsync" => Op::Fsync(path(1)?),
        "fdatasync" => Op::Fdatasync(path(1)?),
        "sync-dir" => Op::SyncDir(path(1)?),
        "sync" => Op::Sync,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::generate::{Bounds, all_ops};

    #[test]
    fn every_operation_is_read_as_it_was_printed() {
        let ops = all_ops(Bounds::Complete);
        assert!(ops.len() > 40);
        assert_eq!(parse(&text(&ops)).unwrap(), ops);
        assert!(parse("write A").is_none() && parse("eat A").is_none() && parse("unlink nowhere").is_none());
    }
}
