//! The pieces of work. Invariant: each does the same for every contender, and tells how much it did.

mod database;
mod large;
mod small;
mod tree;

use anyhow::Result;

pub use tree::archive;

use crate::ground::Ground;

/// How much was done.
pub enum Done {
    /// So many units in the time that it took.
    Amount(f64),
    /// So many units a second, by the work's own clock.
    Rate(f64),
}

/// What a piece of work must reach: its rate against gocryptfs and against the floor.
#[derive(Clone, Copy)]
pub struct Goal {
    pub gocryptfs: f64,
    pub floor: f64,
}

/// A piece of work.
pub struct Work {
    pub name: &'static str,
    pub unit: &'static str,
    /// Bytes of an amount of one, where it is data: for the cost in CPU time.
    pub bytes: f64,
    pub goal: Goal,
    /// Once for a contender.
    pub prepare: fn(&Ground<'_>) -> Result<()>,
    /// Before each run, not timed.
    pub before: fn(&Ground<'_>) -> Result<()>,
    /// A run.
    pub run: fn(&Ground<'_>) -> Result<Done>,
    /// At the end, for a contender.
    pub after: fn(&Ground<'_>) -> Result<()>,
}

#[allow(clippy::unnecessary_wraps, reason = "it stands where work that may fail stands")]
fn nothing(_: &Ground<'_>) -> Result<()> {
    Ok(())
}

fn cool(ground: &Ground<'_>) -> Result<()> {
    ground.cool()
}

/// All of it, in order.
pub const WORKS: &[Work] = &[
    Work {
        name: "sequential write 1 MiB",
        unit: "MB/s",
        bytes: 1e6,
        goal: Goal { gocryptfs: 1.7, floor: 0.75 },
        prepare: nothing,
        before: large::remove,
        run: large::write,
        after: nothing,
    },
    Work {
        name: "sequential read 1 MiB",
        unit: "MB/s",
        bytes: 1e6,
        goal: Goal { gocryptfs: 1.05, floor: 0.8 },
        prepare: large::make,
        before: cool,
        run: large::read,
        after: large::remove,
    },
    Work {
        name: "random read 4 KiB",
        unit: "IOPS",
        bytes: 4096.0,
        goal: Goal { gocryptfs: 1.2, floor: 0.9 },
        prepare: large::make_in_pieces,
        before: cool,
        run: large::read_at_random,
        after: nothing,
    },
    Work {
        name: "random write 4 KiB",
        unit: "IOPS",
        bytes: 4096.0,
        goal: Goal { gocryptfs: 2.0, floor: 0.7 },
        prepare: large::make_in_pieces,
        before: nothing,
        run: large::write_at_random,
        after: large::remove,
    },
    Work {
        name: "create files of 4 KiB",
        unit: "per s",
        bytes: 0.0,
        goal: Goal { gocryptfs: 1.5, floor: 0.6 },
        prepare: nothing,
        before: small::remove,
        run: small::create,
        after: nothing,
    },
    Work {
        name: "open and read files of 4 KiB",
        unit: "per s",
        bytes: 0.0,
        goal: Goal { gocryptfs: 2.5, floor: 0.7 },
        prepare: small::make,
        before: cool,
        run: small::read,
        after: nothing,
    },
    Work {
        name: "stat",
        unit: "per s",
        bytes: 0.0,
        goal: Goal { gocryptfs: 1.3, floor: 0.9 },
        prepare: small::make,
        before: cool,
        run: small::stat,
        after: nothing,
    },
    Work {
        name: "find -size",
        unit: "files/s",
        bytes: 0.0,
        goal: Goal { gocryptfs: 1.3, floor: 0.9 },
        prepare: small::make,
        before: cool,
        run: small::find,
        after: small::remove,
    },
    Work {
        name: "tar x of a source tree",
        unit: "MB/s",
        bytes: 0.0,
        goal: Goal { gocryptfs: 1.5, floor: 0.6 },
        prepare: nothing,
        before: tree::remove,
        run: tree::unpack,
        after: nothing,
    },
    Work {
        name: "grep -r of it",
        unit: "MB/s",
        bytes: 0.0,
        goal: Goal { gocryptfs: 1.5, floor: 0.6 },
        prepare: tree::make,
        before: cool,
        run: tree::search,
        after: tree::remove,
    },
    Work {
        name: "pgbench (scale 10, 2 clients)",
        unit: "tps",
        bytes: 0.0,
        goal: Goal { gocryptfs: 1.3, floor: 0.8 },
        prepare: database::make,
        before: nothing,
        run: database::run,
        after: database::remove,
    },
];
