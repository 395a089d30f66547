//! What the filesystem promises, kept through faults of a real kernel: each module is one kind of fault.
//!
//! Needs root, `/dev/fuse`, loop devices and a few programs; without them the tests are skipped and say so, and with `CI`
//! set they fail. `COFFERDAM_LONG=1` takes the long run, `COFFERDAM_SEED=n` the choices of another run.

#![allow(clippy::unwrap_used, clippy::panic)]

mod device;
mod full;
mod kill;
mod power;
mod rewrap;
mod sizes;
mod torn;
mod vectors;

use std::path::Path;

use faults::power::Outcome;

/// This crate's own program, which serves.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cofferdam-faults"))
}

/// A seed, said aloud, so that a failure can be looked at again.
fn seed(what: &str) -> u64 {
    let seed = faults::dice::seed();
    println!("{what}: COFFERDAM_SEED={seed}");
    seed
}

/// The error of a call that was to fail.
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Every promise of ours was kept, and the fault was one: it took away what nobody had promised.
fn assert_kept(outcome: &Outcome, rounds: u32) {
    let broken = &outcome.findings.broken;
    assert!(broken.is_empty(), "{} broken promises:\n{}", broken.len(), broken.join("\n"));
    assert_eq!(outcome.rounds, rounds);
    assert!(outcome.findings.kept > 100 * u64::from(rounds), "few promises: {}", outcome.findings.kept);
    println!(
        "{rounds} rounds, {} promises kept, {} changes in flight undone in {} rounds",
        outcome.findings.kept, outcome.findings.undone, outcome.rounds_with_undone
    );
}
