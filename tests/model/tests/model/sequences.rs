//! 10,000 random sequences, a quarter of them for each kind of volume.

use std::cell::RefCell;

use envelope::Ownership;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::real::Make;
use crate::seed;
use crate::steps::step;
use crate::world::{Tally, World};

const CASES: u32 = 2500;
/// Steps of a sequence, at most.
const STEPS: usize = 48;

fn check(what: &str, ownership: Ownership, strict: bool) {
    let pages = prop_oneof![6 => Just(1_u8), 2 => Just(2), 1 => Just(3), 1 => Just(16)];
    let sequences = (pages, prop::collection::vec(step(), 1..STEPS));
    let tally = RefCell::new(Tally::new());
    let result = TestRunner::new(seed::config(what, CASES)).run(&sequences, |(header_pages, steps)| {
        let seal = steps.len() % 2 == 0;
        let mut world = World::make(Make { ownership, strict, seal, header_pages });
        let verdict = world.run(&steps).map_err(TestCaseError::fail);
        for (key, count) in world.tally {
            *tally.borrow_mut().entry(key).or_default() += count;
        }
        verdict
    });
    if let Err(error) = result {
        panic!("{error}\nkeep these steps in regressions.rs");
    }
    check_tally(&tally.borrow(), ownership == Ownership::Native);
}

/// A sequence that does nothing proves nothing: every kind of step did something, and was refused in every way there is.
fn check_tally(tally: &Tally, native: bool) {
    let count = |kind: &str, errno| tally.get(&(kind.to_owned(), errno)).copied().unwrap_or(0);
    let all = [
        "Create",
        "Mkdir",
        "Mknod",
        "Symlink",
        "Link",
        "Unlink",
        "Rmdir",
        "Rename",
        "Open",
        "Write",
        "Read",
        "Truncate",
        "Allocate",
        "Seek",
        "Fsync",
        "SetXattr",
        "RemoveXattr",
        "Chmod",
        "Chown",
        "SetTime",
    ];
    let by_root_only = |kind: &&str| *kind == "Chown" && native && !crate::real::is_root();
    for kind in all.iter().filter(|kind| !by_root_only(kind)) {
        assert!(count(kind, None) >= CASES / 250, "{kind} was hardly ever done: {tally:?}");
    }
    for (kind, errnos) in [
        ("Create", &[libc::EEXIST, libc::EPERM, libc::ENOKEY][..]),
        ("Rename", &[libc::ENOENT, libc::EEXIST, libc::EINVAL, libc::ENOTDIR, libc::EISDIR]),
        ("Rmdir", &[libc::ENOENT, libc::ENOTDIR, libc::ENOTEMPTY]),
        ("Unlink", &[libc::ENOENT, libc::EISDIR]),
        ("Link", &[libc::EEXIST, libc::EPERM]),
        ("Open", &[libc::EISDIR, libc::EINVAL, libc::ENOKEY]),
        ("Allocate", &[libc::EINVAL, libc::EOPNOTSUPP, libc::ENOKEY]),
        ("Write", &[libc::ENOKEY]),
        ("Read", &[libc::ENOKEY]),
        ("Truncate", &[libc::ENOKEY]),
        ("Seek", &[libc::ENXIO]),
        ("SetXattr", &[libc::EEXIST, libc::ENODATA, libc::EPERM]),
        ("RemoveXattr", &[libc::ENODATA]),
    ] {
        for errno in errnos {
            assert!(count(kind, Some(*errno)) > 0, "{kind} was never refused with {errno}: {tally:?}");
        }
    }
}

#[test]
fn native_volumes_behave_as_the_reference() {
    check("native", Ownership::Native, false);
}

#[test]
fn native_strict_volumes_behave_as_the_reference() {
    check("native, strict", Ownership::Native, true);
}

#[test]
fn virtual_volumes_behave_as_the_reference() {
    check("virtual", Ownership::Virtual, false);
}

#[test]
fn virtual_strict_volumes_behave_as_the_reference() {
    check("virtual, strict", Ownership::Virtual, true);
}
