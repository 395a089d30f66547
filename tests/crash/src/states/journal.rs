//! Names and attributes after a crash.
//!
//! Invariant: changes of names reach the disk in their order, and an fsync of any directory brings all before it; an inode's
//! attributes do so for themselves. An fsync of a file says nothing about names.

use crate::disk::{Attrs, Change, Image, Ino};

/// How many changes of names there are, and how many of them are durable.
pub fn names(log: &[Change]) -> (usize, usize) {
    let synced = |change: &Change| matches!(change, Change::SyncNames { .. } | Change::SyncAll);
    let until = log.iter().rposition(synced).map_or(0, |at| at + 1);
    let count = |log: &[Change]| log.iter().filter(|change| change.is_of_names()).count();
    (count(log), count(&log[..until]))
}

/// The image with the first `count` changes of names, and with nothing in its files.
pub fn with_names(base: &Image, log: &[Change], count: usize) -> Image {
    let mut image = base.clone();
    log.iter().filter(|change| change.is_of_names()).take(count).for_each(|change| image.apply(change));
    image
}

/// The attributes that the inode may have, newest first; empty if they never changed.
pub fn attributes(ino: Ino, first: &Attrs, log: &[Change]) -> Vec<Attrs> {
    let synced = |change: &Change| match change {
        Change::Sync { ino: of, data_only: false } => *of == ino,
        Change::SyncAll => true,
        _ => false,
    };
    let mut versions = vec![first.clone()];
    for change in log {
        match change {
            Change::Attrs { ino: of, attrs } if *of == ino => versions.push(attrs.clone()),
            change if synced(change) => drop(versions.drain(..versions.len() - 1)),
            _ => {}
        }
    }
    versions.reverse();
    versions
}
