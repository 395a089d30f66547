//! Where randomness begins.
//!
//! Invariant: a run says its seed, and a run with `COFFERDAM_MODEL_SEED` set to it does the same again.

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};

/// The variable that names the seed.
const VARIABLE: &str = "COFFERDAM_MODEL_SEED";
/// Set for the long run: ten times as many cases.
const LONG: &str = "COFFERDAM_LONG";

/// The seed of this run.
pub fn seed() -> u64 {
    if let Ok(given) = std::env::var(VARIABLE) {
        return given.parse().unwrap();
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// `cases` of them (more in the long run), with failures kept beside this file.
pub fn config(what: &str, cases: u32) -> Config {
    let seed = seed();
    let cases = if std::env::var_os(LONG).is_some() { cases * 10 } else { cases };
    eprintln!("{what}: {cases} cases, {VARIABLE}={seed}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions.txt");
    Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}
