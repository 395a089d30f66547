//! Every workload of up to three operations, crashed at every operation of its storage, and each operation whose storage fails.
//!
//! About 3 minutes on two processors. `COFFERDAM_LONG=1` looks at the complete set; `COFFERDAM_CRASH='append A 100; fsync A'`
//! at one workload, as a violation prints it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crash::explore::{Explorer, Violation};
use crash::table::{Counts, table};
use crash::work::{Bounds, Kind, Op, Sequence, Volume, parse, sequences, text};

/// States of one crash.
const MOST: usize = 48;
/// Of a single workload.
const MOST_OF_ONE: usize = 4096;
/// Violations after which it is enough.
const ENOUGH: usize = 3;

/// Workloads that once lost what was synced, or made a file shorter than it ever was.
const REGRESSIONS: [&str; 4] = [
    // The last block on the device became a hole, because the file had more blocks that were not there yet.
    "append A 9000; zero A 5000 9000",
    "size A 20000; punch A 4048 8000",
    // The cut was there before the block that it made the last one.
    "punch A 100 8000; size A 4100",
    "punch A 100 8000; fdatasync A; write A 4000 200; size A 4100",
];

type Look<'a> = &'a (dyn Fn(&Explorer, &Sequence, &mut Counts) -> Result<(), Violation> + Sync);

fn bounds() -> Bounds {
    if std::env::var_os("COFFERDAM_LONG").is_some() { Bounds::Complete } else { Bounds::Quick }
}

/// Looks at all of them, on all processors. `None`, loudly, where nothing can be mounted.
fn look_at_all(kind: Kind, sequences: &[Sequence], look: Look<'_>) -> Option<(Counts, Duration)> {
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let (total, violations) = (Mutex::new(Counts::default()), Mutex::new(Vec::<Violation>::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let explorer = Explorer::new(Volume::new(kind), MOST)?;
        let mut counts = Counts::default();
        while let Some(sequence) = sequences.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Err(violation) = look(&explorer, sequence, &mut counts) else { continue };
            counts.violations += 1;
            let mut found = violations.lock().unwrap();
            if found.iter().all(|known| known.ops != violation.ops) {
                found.push(violation);
            }
            if found.len() >= ENOUGH {
                break;
            }
        }
        total.lock().unwrap().add(counts);
        Some(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Option<Vec<()>>>()
    })?;
    let (counts, violations) = (total.into_inner().unwrap(), violations.into_inner().unwrap());
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}\n{counts:?}", lines.join("\n"));
    assert_eq!(counts.workloads, sequences.len() as u64);
    Some((counts, start.elapsed()))
}

fn crash_each(explorer: &Explorer, sequence: &Sequence, counts: &mut Counts) -> Result<(), Violation> {
    let found = explorer.explore(&sequence.ops, sequence.from, counts);
    found.map_err(|violation| explorer.shrink(violation))
}

#[test]
fn what_was_synced_survives_every_crash_and_the_rest_is_old_or_new() {
    let mut rows = Vec::new();
    let mut look = |name: &str, kind, sequences: &[Sequence]| {
        let (counts, time) = look_at_all(kind, sequences, &crash_each)?;
        rows.push((name.to_owned(), counts, time));
        Some(())
    };
    let touches_slots = |one: &Sequence| one.ops.iter().any(|op| matches!(op, Op::Rewrap(_) | Op::Sweep(_)));
    let looked = (|| {
        look("1 operation", Kind::Plain, &sequences(1, bounds()))?;
        look("2 operations", Kind::Plain, &sequences(2, bounds()))?;
        look("3 operations", Kind::Plain, &sequences(3, bounds()))?;
        look("1 operation, strict volume", Kind::Strict, &sequences(1, bounds()))?;
        look("2 operations, strict volume", Kind::Strict, &sequences(2, bounds()))?;
        look("1 operation, files are sealed", Kind::Seal, &sequences(1, bounds()))?;
        look("2 operations, files are sealed", Kind::Seal, &sequences(2, bounds()))?;
        look("1 operation, virtual ownership", Kind::Virtual, &sequences(1, bounds()))?;
        let rewraps: Vec<Sequence> = sequences(2, bounds()).into_iter().filter(touches_slots).collect();
        look("2 operations with a rewrap, two header pages", Kind::TwoPages, &rewraps)
    })();
    if looked.is_some() {
        eprintln!("{}", table(&rows));
    }
}

#[test]
fn workloads_that_once_lost_something_do_so_no_more() {
    let Some(explorer) = Explorer::new(Volume::new(Kind::Plain), MOST_OF_ONE) else { return };
    for line in REGRESSIONS {
        let found = explorer.explore(&parse(line).unwrap(), 0, &mut Counts::default());
        found.unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn an_operation_whose_storage_fails_says_so_harms_nothing_and_can_be_done_again() {
    // The operation, and each sync behind it.
    let fail_each = |explorer: &Explorer, one: &Sequence, counts: &mut Counts| {
        counts.workloads += 1;
        (one.from..one.ops.len()).try_for_each(|last| explorer.fail_each(&one.ops[..=last], counts))
    };
    let mut rows = Vec::new();
    for depth in 1..=2 {
        let mut all = sequences(depth, bounds());
        if depth > 1 {
            for one in &mut all {
                one.ops.truncate(one.from + 1);
            }
            all.dedup_by_key(|one| text(&one.ops));
        }
        let Some((counts, time)) = look_at_all(Kind::Plain, &all, &fail_each) else { return };
        rows.push((format!("{depth} operations, one of the storage's fails"), counts, time));
    }
    eprintln!("{}", table(&rows));
}

/// One workload by hand.
#[test]
fn the_workload_of_the_environment() {
    let Ok(line) = std::env::var("COFFERDAM_CRASH") else { return };
    let (kind, line) = Kind::split(&line);
    let ops = parse(line).expect("a workload, as a violation prints it");
    let explorer = Explorer::new(Volume::new(kind), MOST_OF_ONE).expect("root and /dev/fuse");
    let mut counts = Counts::default();
    let result = explorer.explore(&ops, 0, &mut counts).and_then(|()| explorer.fail_each(&ops, &mut counts));
    eprintln!("{counts:?}");
    result.unwrap_or_else(|violation| panic!("{violation}"));
}
