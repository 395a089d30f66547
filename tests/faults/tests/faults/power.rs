//! Power cuts on real filesystems. Invariant: what was synced is there, and everything that is there can be read.

use faults::dice::rounds;
use faults::power::{Trial, run};
use faults::{Format, Kind, Place, RootKey, able};

use crate::{assert_kept, program, seed};

fn survives(format: Format, mkfs: &str) {
    if !able(&["losetup", "mount", mkfs]) {
        return;
    }
    let rounds = rounds(20, 200);
    let seed = seed(mkfs);
    let outcome = run(program(), &Trial { format, kind: Kind::Memory, rounds, seed }).unwrap();
    assert_kept(&outcome, rounds);
    // Otherwise a missing sync would not be seen.
    assert!(outcome.rounds_with_undone > rounds / 2, "the cuts took nothing away");
}

#[test]
fn what_was_synced_survives_power_cuts_on_ext4() {
    survives(Format::Ext4, "mkfs.ext4");
}

#[test]
fn what_was_synced_survives_power_cuts_on_xfs() {
    survives(Format::Xfs, "mkfs.xfs");
}

/// No holes, and owners in attributes of ours.
#[test]
fn a_strict_volume_survives_power_cuts() {
    if !able(&["losetup", "mount", "mkfs.xfs"]) {
        return;
    }
    let rounds = rounds(5, 50);
    let trial = Trial { format: Format::Xfs, kind: Kind::Strict, rounds, seed: seed("strict") };
    assert_kept(&run(program(), &trial).unwrap(), rounds);
}

/// The marker, group records and the sweep's writes are under the cut too.
#[test]
fn a_volume_with_a_kms_survives_power_cuts() {
    if !able(&["losetup", "mount", "mkfs.ext4"]) {
        return;
    }
    let place = Place::new().unwrap();
    let key = RootKey::new(&place.path("")).unwrap();
    let rounds = rounds(5, 50);
    let trial =
        Trial { format: Format::Ext4, kind: Kind::Volume(key.profile()), rounds, seed: seed("volume") };
    assert_kept(&run(program(), &trial).unwrap(), rounds);
}

/// The same load and the same check, on a filesystem that does not sync what a directory needs: the check can fail.
#[test]
fn the_check_sees_what_gocryptfs_loses() {
    if !able(&["losetup", "mount", "mkfs.ext4", "gocryptfs"]) {
        return;
    }
    let trial = Trial {
        format: Format::Ext4,
        kind: Kind::Gocryptfs,
        rounds: rounds(5, 200),
        seed: seed("gocryptfs"),
    };
    let outcome = run(program(), &trial).unwrap();
    println!("gocryptfs: {} of {} rounds broke promises", outcome.bad_rounds, outcome.rounds);
    assert!(outcome.bad_rounds > 0, "gocryptfs lost nothing in {} rounds", outcome.rounds);
}
