//! What keeps a key version from being retired.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use api::volume::{EncryptedVolumeStatus, Marker};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::super::status::count;
use super::*;

/// A minute of the day on which `v2` was made at 02:00 and the volumes were swept at 10:00.
fn at(hour: i8, minute: i8) -> Timestamp {
    format!("2026-03-01T{hour:02}:{minute:02}:00Z").parse().unwrap()
}

fn volume(name: &str, sweep: Option<(&str, &[(&str, u64)])>) -> EncryptedVolume {
    let mut volume: EncryptedVolume = serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"claimName": name, "bindingName": "b", "profile": {"name": "main"}},
    }))
    .unwrap();
    let counts =
        |files: &[(&str, u64)]| files.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    volume.status = Some(EncryptedVolumeStatus {
        marker: Some(Marker::default()),
        last_sweep: sweep.map(|(target, files)| Sweep {
            target_version: target.into(),
            files_per_version: counts(files),
            completed_at: Some(Time(at(12, 0))),
            clean_since: Some(Time(at(10, 0))),
            ..Sweep::default()
        }),
        ..EncryptedVolumeStatus::default()
    });
    volume
}

fn swept(name: &str) -> EncryptedVolume {
    volume(name, Some(("v2", &[("v2", 9)])))
}

fn snapshot(claim: Option<&str>, taken: Option<Timestamp>) -> Snapshot {
    Snapshot {
        namespace: "shop".into(),
        name: "nightly".into(),
        claim: claim.map(str::to_owned),
        earliest: taken,
        latest: taken,
    }
}

/// Versions `v2` (current) and `v1`, decided; the answer is `v1`.
fn old(volumes: &[&EncryptedVolume], snapshots: &Result<Vec<Snapshot>, NotKnown>) -> VersionStatus {
    let version = |id: &str, hour| VersionStatus {
        id: id.into(),
        created_at: Some(Time(at(hour, 0))),
        ..VersionStatus::default()
    };
    let mut status = KmsProfileStatus {
        current_version: Some("v2".into()),
        versions: vec![version("v2", 2), version("v1", 1)],
        ..KmsProfileStatus::default()
    };
    count(&mut status, volumes);
    decide(&mut status, volumes, snapshots);
    assert!(!status.versions[0].retirable, "the current version never is");
    assert_eq!(status.versions[0].reason.as_deref(), Some(reasons::CURRENT));
    status.versions[1].clone()
}

fn reason(version: &VersionStatus) -> &str {
    version.reason.as_deref().unwrap()
}

#[test]
fn a_version_is_retirable_only_when_every_volume_was_swept_to_the_current_one() {
    let old = |volumes: &[&EncryptedVolume]| old(volumes, &Ok(vec![]));
    let clean = swept("clean");
    assert_eq!((old(&[&clean]).retirable, reason(&old(&[&clean]))), (true, reasons::UNNEEDED));
    let behind = volume("behind", Some(("v1", &[("v1", 4)])));
    let found = old(&[&clean, &behind]);
    assert_eq!((found.retirable, found.files, reason(&found)), (false, 4, reasons::FILES_LEFT));
    assert_eq!(found.blockers, ["EncryptedVolume shop/behind"]);
    let unknown = volume("unknown", None);
    let found = old(&[&clean, &unknown]);
    assert_eq!((found.retirable, found.unknown_volumes, reason(&found)), (false, 1, reasons::UNKNOWN));
    assert_eq!(found.blockers, ["EncryptedVolume shop/unknown"]);
    // Swept to the old version before the rotation, with no file then: new files may have come since.
    let stale = volume("stale", Some(("v1", &[])));
    assert_eq!(
        (old(&[&clean, &stale]).retirable, reason(&old(&[&clean, &stale]))),
        (false, reasons::NOT_SWEPT)
    );
    let mut gone = stale;
    gone.spec.acknowledged = true;
    assert!(old(&[&clean, &gone]).retirable, "a person says that it is gone for good");
}

#[test]
fn a_snapshot_from_before_the_sweep_blocks_and_one_from_after_it_does_not() {
    let files = swept("files");
    let with = |claim, taken| old(&[&files], &Ok(vec![snapshot(claim, taken)]));
    let before = with(Some("files"), Some(at(9, 0)));
    assert_eq!(
        (before.retirable, before.older_snapshots, reason(&before)),
        (false, 1, reasons::OLDER_SNAPSHOTS)
    );
    assert_eq!(before.blockers, ["VolumeSnapshot shop/nightly"]);
    // Swept clean at 10:00, and swept again at 12:00 with nothing to do.
    assert!(with(Some("files"), Some(at(11, 0))).retirable);
    assert!(!with(Some("files"), Some(at(10, 4))).retirable, "clocks differ");
    assert!(!with(Some("files"), None).retirable, "nobody knows when");
    // Version v1 did not exist before 01:00.
    assert!(with(Some("files"), Some(at(0, 30))).retirable);
    assert!(!with(Some("files"), Some(at(0, 58))).retirable, "clocks differ");
}

#[test]
fn a_snapshot_counts_where_its_claim_is_protected_or_nobody_says_what_it_is_of() {
    let files = swept("files");
    let with = |claim| old(&[&files], &Ok(vec![snapshot(claim, Some(at(9, 0)))])).retirable;
    assert!(with(Some("others")));
    assert!(!with(None));
    let elsewhere = Snapshot { namespace: "bank".into(), ..snapshot(Some("files"), Some(at(9, 0))) };
    assert!(old(&[&files], &Ok(vec![elsewhere])).retirable);
    // What a person says of a volume says nothing of its snapshots.
    let mut gone = volume("gone", Some(("v1", &[("v1", 3)])));
    gone.spec.acknowledged = true;
    let found = old(&[&gone], &Ok(vec![snapshot(Some("gone"), Some(at(11, 0)))]));
    assert_eq!((found.retirable, found.files, found.older_snapshots), (false, 0, 1));
}

#[test]
fn where_snapshots_are_not_known_nothing_is_retirable_and_the_reason_is_said() {
    let found = old(&[&swept("files")], &Err(NotKnown::because("the API server is away")));
    assert_eq!((found.retirable, reason(&found)), (false, reasons::SNAPSHOTS_UNKNOWN));
    assert!(found.message.unwrap().contains("the API server is away"));
}

#[test]
fn without_a_current_version_nothing_is_retirable_and_the_list_stays_short() {
    let mut status = KmsProfileStatus {
        versions: vec![VersionStatus { id: "v1".into(), ..VersionStatus::default() }],
        ..KmsProfileStatus::default()
    };
    decide(&mut status, &[], &Ok(vec![]));
    assert_eq!((status.versions[0].retirable, reason(&status.versions[0])), (false, reasons::UNKNOWN));
    let files = swept("files");
    let many = vec![snapshot(Some("files"), Some(at(9, 0))); 60];
    let found = old(&[&files], &Ok(many));
    assert_eq!((found.older_snapshots, found.blockers.len()), (60, LISTED));
}

#[test]
fn a_bound_volume_that_nobody_has_looked_into_counts_until_a_person_says_that_it_is_gone() {
    let old = |volume: &EncryptedVolume| old(&[volume], &Ok(vec![]));
    let mut unseen = volume("unseen", None);
    unseen.status = Some(EncryptedVolumeStatus::default());
    assert!(old(&unseen).retirable, "the claim was never bound");
    unseen.status.as_mut().unwrap().persistent_volume = Some("pv-1".into());
    assert_eq!((old(&unseen).retirable, old(&unseen).unknown_volumes), (false, 1));
    unseen.spec.acknowledged = true;
    unseen.status.as_mut().unwrap().acknowledged_volume = Some("pv-1".into());
    assert!(old(&unseen).retirable);
    unseen.status.as_mut().unwrap().persistent_volume = Some("pv-2".into());
    assert!(!old(&unseen).retirable, "that was said of another volume");
}

#[test]
fn a_volume_that_a_job_found_empty_needs_no_version_that_was_older_then() {
    let mut empty = volume("empty", Some(("v2", &[])));
    empty.status.as_mut().unwrap().marker = None;
    empty.status.as_mut().unwrap().persistent_volume = Some("pv-1".into());
    let found = old(&[&empty], &Ok(vec![]));
    assert_eq!((found.retirable, found.files, found.unknown_volumes), (true, 0, 0));
    empty.status.as_mut().unwrap().last_sweep.as_mut().unwrap().target_version = "v1".into();
    assert_eq!(reason(&old(&[&empty], &Ok(vec![]))), reasons::NOT_SWEPT);
}

#[test]
fn volumes_that_are_mounted_read_only_are_said_to_be_in_the_way() {
    let mut read = volume("read", Some(("v1", &[("v1", 4)])));
    let message = |volume: &EncryptedVolume| old(&[volume], &Ok(vec![])).message.unwrap();
    assert_eq!(message(&read), "it still wraps 4 files");
    let status = read.status.as_mut().unwrap();
    let waits = crate::controllers::conditions::Verdict::yes(reasons::MOUNTED_READ_ONLY, "");
    let now = crate::controllers::conditions::now();
    crate::controllers::conditions::put(&mut status.conditions, types::REWRAP_WAITS, &waits, None, &now);
    assert!(message(&read).contains("of the listed volumes 1 are mounted read-only"), "{}", message(&read));
}
