//! Workloads: what an application does, as text and as calls of the filesystem.
//!
//! Invariant: a workload is feasible in the order given, from the volume of [`start`]; running it twice does the same.

mod generate;
mod op;
mod run;
mod start;

pub use generate::{Bounds, Sequence, sequences};
pub use op::{Op, parse, text};
pub use run::{App, Kind, Volume, XATTR};
pub use start::{LARGE, SMALL, START, start};
