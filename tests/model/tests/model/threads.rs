//! Random races, and some that are known to be hard.

use envelope::Ownership;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::order::Deed;
use crate::racing::Race;
use crate::real::Make;
use crate::seed;
use crate::steps::place;

const CASES: u32 = 1000;
/// How often each race is run.
const ROUNDS: usize = 4;
const PAYLOAD: u64 = 4048;

/// Deeds that touch one block each: those are all or nothing for readers too.
fn of_one_block() -> impl Strategy<Value = Deed> {
    let within = || {
        (0..3_u64, 0..PAYLOAD, 1..PAYLOAD)
            .prop_map(|(block, at, len)| (block * PAYLOAD + at, len.min(PAYLOAD - at)))
    };
    prop_oneof![
        4 => (within(), 1..100_u8).prop_map(|((at, len), fill)| Deed::Write { at, len, fill }),
        4 => within().prop_map(|(at, len)| Deed::Read { at, len }),
        2 => (0..3 * PAYLOAD).prop_map(|size| Deed::Truncate { size }),
        1 => Just(Deed::Size),
        1 => within().prop_map(|(at, len)| Deed::Punch { at, len }),
        1 => (0..3_u64).prop_map(|block| Deed::Punch { at: block * PAYLOAD, len: PAYLOAD }),
        1 => within().prop_map(|(at, len)| Deed::Grow { at, len }),
    ]
}

/// Deeds of any length, without readers.
fn of_writers() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (place(), 1..9000_u64, 1..100_u8).prop_map(|(at, len, fill)| Deed::Write { at, len, fill }),
        2 => place().prop_map(|size| Deed::Truncate { size }),
        1 => (place(), 1..9000_u64).prop_map(|(at, len)| Deed::Punch { at, len }),
        1 => (place(), 1..9000_u64).prop_map(|(at, len)| Deed::Grow { at, len }),
    ]
}

fn check(what: &str, deed: impl Strategy<Value = Deed> + Clone, trouble: bool) {
    let threads = prop::collection::vec(prop::collection::vec(deed, 1..4), 2..5);
    let make = (any::<bool>(), prop_oneof![Just(1_u8), Just(16)]);
    let races = (threads, prop_oneof![Just(0_u64), 0..3 * PAYLOAD], make);
    let result = TestRunner::new(seed::config(what, CASES)).run(
        &races,
        |(threads, before, (strict, header_pages))| {
            let seal = threads.len() % 2 == 0;
            let make = Make { ownership: Ownership::Native, strict, seal, header_pages };
            Race { before, threads, trouble }.run(make, ROUNDS).map_err(TestCaseError::fail)
        },
    );
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn an_order_explains_what_threads_see_of_one_file() {
    check("races within a block", of_one_block().boxed(), false);
}

#[test]
fn an_order_explains_what_writers_of_many_blocks_leave() {
    check("races of writers", of_writers().boxed(), false);
}

#[test]
fn an_order_explains_races_while_keys_are_rotated_rewrapped_and_withheld() {
    check("races with trouble", of_one_block().boxed(), true);
}
