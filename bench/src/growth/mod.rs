//! Whether the cost of an operation stays as it is when there are more files, and larger ones; and what files take on the storage.
//!
//! Invariant: what is compared was timed in turn, in the same minutes.

mod large;
mod many;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::contender::{Contender, Mounted};
use crate::ground::{Ground, Numbers};
use crate::measure::{with_mounts, within};
use crate::table::median;

/// How often each thing is timed; the median counts.
const REPEATED: usize = 9;
/// The most that the larger one may cost of the smaller one to be called flat.
const FLAT: f64 = 1.25;
/// Sizes of files whose place on the storage is shown, and how it is said.
const SIZES: [(usize, &str); 5] =
    [(0, "0"), (1, "1 B"), (4048, "4048 B"), (4096, "4 KiB"), (65_536, "64 KiB")];

/// Grows mounts of Cofferdam and their storage itself, and says what came out, as Markdown.
pub fn run(options: &Options) -> Result<String> {
    // One of each stays small.
    let contenders = vec![Contender::Cofferdam, Contender::Cofferdam, Contender::Storage, Contender::Storage];
    let options = Options { contenders, ..options.clone() };
    let limit = Duration::from_secs_f64(options.minutes * 60.0);
    with_mounts(&options, |mounts, grounds| {
        let ([small, large, ..], [few, many, storage_few, storage_many]) = (mounts, grounds) else {
            anyhow::bail!("four mounts are needed");
        };
        let grow = || grow([few, many], [storage_few, storage_many], large);
        within(limit, small.server(), || within(limit, large.server(), grow))
    })
}

fn grow(ours: [&Ground<'_>; 2], storage: [&Ground<'_>; 2], large: &Mounted) -> Result<String> {
    let mut rows = many::rows("cofferdam", ours[0], ours[1])?;
    let walked = many::walk(large, ours[1])?;
    rows.extend(many::rows("storage", storage[0], storage[1])?);
    Ok(table(&rows) + &walked + "\n" + &table(&large::rows(ours[0])?) + &space(ours[0])?)
}

/// Something that was timed: microseconds of an operation with little and with much, and what the one is of the other.
struct Row {
    what: String,
    little: f64,
    much: f64,
    ratio: f64,
}

impl Row {
    /// From what was timed in each round; the ratio is the median of those of the rounds.
    fn new(what: String, little: Vec<f64>, much: Vec<f64>) -> Self {
        let ratio = median(little.iter().zip(&much).map(|(little, much)| much / little).collect());
        Self { what, little: median(little), much: median(much), ratio }
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = "| microseconds of an operation | little | much | |\n|---|---:|---:|---|\n".to_owned();
    for Row { what, little, much, ratio } in rows {
        let verdict = if *ratio <= FLAT { "flat" } else { "**not flat**" };
        text += &format!("| {what} | {little:.1} | {much:.1} | {ratio:.2}, {verdict} |\n");
    }
    text
}

/// Times `work` for each of `count` things; microseconds for one.
fn timed(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// What files of some sizes take on the storage, as it counts itself.
fn space(ground: &Ground<'_>) -> Result<String> {
    let mut text = "\n| size of a file | on the storage, bytes |\n|---|---:|\n".to_owned();
    for (size, name) in SIZES {
        let path = ground.at("size");
        fs::write(&path, Numbers(37).bytes(size))?;
        rustix::fs::sync();
        text += &format!("| {name} | {} |\n", fs::metadata(&path)?.blocks() * 512);
        fs::remove_file(&path)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_that_grows_is_called_so() {
        let text = table(&[
            Row::new("a".into(), vec![10.0], vec![12.0]),
            Row::new("b".into(), vec![10.0], vec![13.0]),
        ]);
        assert!(
            text.contains("| a | 10.0 | 12.0 | 1.20, flat |") && text.contains("1.30, **not flat**"),
            "{text}"
        );
    }
}
