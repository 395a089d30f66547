//! Reports of sidecars and Jobs, merged one after the other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::check_in::sample::report;

const SIDECAR: Sender<'_> = Sender { pod: "app", role: Role::Sidecar };
const JOB: Sender<'_> = Sender { pod: "rewrap", role: Role::Job };

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn volume(status: Option<EncryptedVolumeStatus>) -> EncryptedVolume {
    let mut volume: EncryptedVolume = serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume", "metadata": {"name": "files", "namespace": "shop"},
        "spec": {"claimName": "files", "bindingName": "app", "profile": {"name": "main"}},
    }))
    .unwrap();
    volume.status = status;
    volume
}

fn marker(id: &str, epoch: u64) -> MarkerReport {
    MarkerReport {
        volume_id: id.into(),
        strict: false,
        seal: true,
        ownership: Ownership::Virtual,
        sweep_epoch: epoch,
        uid: 65532,
        gid: 1000,
    }
}

fn sweep(target: &str, files: &[(&str, u64)], complete: bool) -> SweepReport {
    SweepReport {
        target_version: target.into(),
        files_per_version: files.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect::<BTreeMap<_, _>>(),
        unknown: 0,
        rewrapped: 0,
        complete,
        completed_at: complete.then(|| "2026-01-02T03:04:05Z".into()),
    }
}

fn serving(epoch: u64, sweep: Option<SweepReport>) -> VolumeReport {
    VolumeReport {
        marker: Some(marker("aa", epoch)),
        sweep,
        ..report("data", VolumePhase::Serving, "Serving")
    }
}

/// The status after a served volume was swept to v1.
fn served() -> EncryptedVolumeStatus {
    let first = serving(3, Some(sweep("v1", &[("v1", 7)], true)));
    merge(&volume(None), &first, SIDECAR, Some("v1"), &at(1000)).unwrap().status
}

fn rewrapped_of(status: &EncryptedVolumeStatus) -> (&str, &str) {
    let condition = conditions::find(&status.conditions, types::REWRAPPED).unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn the_first_report_pins_the_marker_and_a_complete_sweep_counts() {
    let status = served();
    assert_eq!(status.marker.as_ref().unwrap().volume_id, "aa");
    assert_eq!(
        (status.phase.as_deref(), status.pod.as_deref(), status.files),
        (Some("Serving"), Some("app"), Some(7))
    );
    assert_eq!(rewrapped_of(&status), ("True", "Ready"));
    let completed = status.last_sweep.unwrap().completed_at.unwrap();
    assert_eq!(completed.0.to_string(), "2026-01-02T03:04:05Z");
}

#[test]
fn a_running_sweep_and_a_report_without_one_leave_the_counts_as_they_were() {
    let before = served();
    for sweep in [None, Some(sweep("v2", &[("v2", 2)], false))] {
        let merged =
            merge(&volume(Some(before.clone())), &serving(3, sweep), SIDECAR, Some("v2"), &at(1030)).unwrap();
        assert_eq!(merged.status.last_sweep, before.last_sweep);
        assert_eq!(rewrapped_of(&merged.status), ("False", reasons::BEHIND));
    }
}

#[test]
fn a_volume_that_was_put_back_is_unknown_until_it_is_swept_again() {
    let put_back = serving(2, Some(sweep("v1", &[("v1", 7)], true)));
    let merged = merge(&volume(Some(served())), &put_back, SIDECAR, Some("v1"), &at(1030)).unwrap();
    assert!(merged.restored);
    assert_eq!((merged.status.files, merged.status.last_sweep.clone()), (None, None));
    assert_eq!(rewrapped_of(&merged.status), ("Unknown", reasons::RESTORED));
    assert!(merged.notices.iter().any(|notice| notice.warning && notice.reason == reasons::RESTORED));
    // Said once, and it stays so.
    let again =
        merge(&volume(Some(merged.status)), &serving(2, None), SIDECAR, Some("v1"), &at(1060)).unwrap();
    assert!(!again.restored && again.notices.is_empty());
    assert_eq!(rewrapped_of(&again.status), ("Unknown", reasons::RESTORED));
    let swept = serving(3, Some(sweep("v1", &[("v1", 7)], true)));
    let swept = merge(&volume(Some(again.status)), &swept, SIDECAR, Some("v1"), &at(1090)).unwrap();
    assert_eq!(rewrapped_of(&swept.status), ("True", "Ready"));
}

#[test]
fn another_volume_id_never_replaces_the_pinned_one() {
    let other =
        VolumeReport { marker: Some(marker("bb", 9)), ..serving(9, Some(sweep("v1", &[("v1", 1)], true))) };
    let merged = merge(&volume(Some(served())), &other, SIDECAR, Some("v1"), &at(1030)).unwrap();
    assert_eq!(merged.status.marker.as_ref().unwrap().volume_id, "aa");
    assert_eq!(rewrapped_of(&merged.status), ("Unknown", reasons::WRONG_VOLUME));
    assert!(merged.restored && merged.notices.len() == 1, "{:?}", merged.notices);
    let again = merge(&volume(Some(merged.status)), &other, SIDECAR, Some("v1"), &at(1060)).unwrap();
    assert!(!again.restored, "it is not news");
    assert_eq!(again.notices, []);
    assert_eq!(rewrapped_of(&again.status), ("Unknown", reasons::WRONG_VOLUME));
}

#[test]
fn a_pod_that_waits_says_nothing_of_a_volume_that_another_serves() {
    let second = Sender { pod: "second", role: Role::Sidecar };
    let status = served();
    for (phase, reason) in [
        (VolumePhase::Waiting, "VolumeInUse"),
        (VolumePhase::Waiting, "Starting"),
        (VolumePhase::Suspended, "KeyDisabled"),
        (VolumePhase::Failed, "PlaintextFound"),
    ] {
        let waiting = report("data", phase, reason);
        assert_eq!(
            merge(&volume(Some(status.clone())), &waiting, second, Some("v1"), &at(1030)),
            None,
            "{reason}"
        );
    }
    // The holder has been silent for too long, or has handed over.
    let waiting = report("data", VolumePhase::Waiting, "KmsUnreachable");
    assert!(merge(&volume(Some(status.clone())), &waiting, second, Some("v1"), &at(1091)).is_some());
    let merged = merge(&volume(Some(status)), &serving(3, None), second, Some("v1"), &at(1001)).unwrap();
    assert_eq!(merged.status.pod.as_deref(), Some("second"));
}

#[test]
fn a_jobs_sweep_detaches_and_a_suspension_is_a_condition() {
    let done = VolumeReport {
        sweep: Some(sweep("v2", &[("v2", 7)], true)),
        marker: Some(marker("aa", 4)),
        ..report("data", VolumePhase::Swept, "Swept")
    };
    let merged = merge(&volume(Some(served())), &done, JOB, Some("v2"), &at(1200)).unwrap();
    assert_eq!((merged.status.phase.as_deref(), merged.status.pod.as_deref()), (Some("Detached"), None));
    assert_eq!(rewrapped_of(&merged.status), ("True", "Ready"));

    let refused = report("data", VolumePhase::Suspended, "KeyDisabled");
    let merged = merge(&volume(Some(served())), &refused, SIDECAR, Some("v1"), &at(1030)).unwrap();
    assert_eq!(conditions::status(&merged.status.conditions, types::SUSPENDED), Some("True"));
    assert!(merged.notices.iter().any(|notice| notice.warning && notice.reason == "KeyDisabled"));
    let served_again =
        merge(&volume(Some(merged.status)), &serving(3, None), SIDECAR, Some("v1"), &at(1060)).unwrap();
    assert_eq!(conditions::status(&served_again.status.conditions, types::SUSPENDED), Some("False"));
}

#[test]
fn torn_writes_are_a_condition_and_damage_is_an_event_once() {
    let mut torn = serving(3, None);
    torn.warnings = vec![check_in::reasons::TORN_WRITES_POSSIBLE.into()];
    torn.integrity_errors = 2;
    let merged = merge(&volume(Some(served())), &torn, SIDECAR, Some("v1"), &at(1030)).unwrap();
    assert_eq!(conditions::status(&merged.status.conditions, types::TORN_WRITES_POSSIBLE), Some("True"));
    assert_eq!(merged.notices.len(), 1, "{:?}", merged.notices);
    let again = merge(&volume(Some(merged.status)), &torn, SIDECAR, Some("v1"), &at(1060)).unwrap();
    assert_eq!(again.notices, []);
}

#[test]
fn a_sweep_that_found_nothing_to_do_leaves_the_volume_clean_since_the_one_before() {
    let swept = |before: &EncryptedVolumeStatus, target: &str, rewrapped, at_second: i64| {
        let report = SweepReport {
            rewrapped,
            completed_at: Some(at(at_second).0.to_string()),
            ..sweep(target, &[(target, 7)], true)
        };
        let merged =
            merge(&volume(Some(before.clone())), &serving(3, Some(report)), SIDECAR, Some("v2"), &at(9000));
        merged.unwrap().status
    };
    let since =
        |status: &EncryptedVolumeStatus| status.last_sweep.as_ref().unwrap().clean_since.clone().unwrap();
    let first = swept(&served(), "v2", 7, 2000);
    assert_eq!(since(&first), at(2000));
    // Its report comes again with every check-in.
    assert_eq!(since(&swept(&first, "v2", 7, 2000)), at(2000));
    let second = swept(&first, "v2", 0, 3000);
    assert_eq!((since(&second), second.last_sweep.unwrap().completed_at), (at(2000), Some(at(3000))));
    assert_eq!(since(&swept(&first, "v2", 1, 3000)), at(3000), "something was left");
    assert_eq!(since(&swept(&first, "v3", 0, 3000)), at(3000), "another version");
    let mut unread = first;
    unread.last_sweep.as_mut().unwrap().unknown = 1;
    assert_eq!(since(&swept(&unread, "v2", 0, 3000)), at(3000));
}

#[test]
fn a_volume_that_is_served_no_more_is_not_said_to_be_served() {
    let suspended = |status: &EncryptedVolumeStatus| {
        let condition = conditions::find(&status.conditions, types::SUSPENDED).unwrap();
        (condition.status.clone(), condition.reason.clone())
    };
    let before = served();
    assert_eq!(suspended(&before), ("False".into(), "Ready".into()));
    for (phase, reason) in
        [(VolumePhase::Waiting, "KmsUnreachable"), (VolumePhase::Failed, check_in::reasons::SESSION_LOST)]
    {
        let report = report("data", phase, reason);
        let after = merge(&volume(Some(before.clone())), &report, SIDECAR, Some("v1"), &at(1030)).unwrap();
        assert_eq!(suspended(&after.status), ("Unknown".into(), reason.into()));
        let again = merge(&volume(Some(after.status)), &serving(3, None), SIDECAR, Some("v1"), &at(1060));
        assert_eq!(suspended(&again.unwrap().status).0, "False");
    }
}

#[test]
fn a_released_volume_stays_released_while_its_old_pod_still_reports() {
    let mut released = volume(Some(served()));
    released.spec.release = true;
    let merged = merge(&released, &serving(3, None), SIDECAR, Some("v1"), &at(1030)).unwrap();
    assert_eq!(merged.status.phase.as_deref(), Some("Released"));
}

/// What a Job says that looked into a volume without a marker.
fn look(target: &str, empty: bool, reason: &str) -> VolumeReport {
    let look = Some(LookReport { target_version: target.into(), empty });
    VolumeReport { look, ..report("data", VolumePhase::Swept, reason) }
}

#[test]
fn a_volume_that_a_job_found_empty_counts_as_zero_files() {
    let merged = merge(&volume(None), &look("v2", true, "VolumeEmpty"), JOB, Some("v2"), &at(2000)).unwrap();
    let status = merged.status;
    let sweep = status.last_sweep.clone().unwrap();
    assert_eq!((sweep.target_version.as_str(), sweep.files_per_version.len(), sweep.unknown), ("v2", 0, 0));
    assert_eq!((status.files, status.marker.clone(), sweep.completed_at), (Some(0), None, Some(at(2000))));
    assert_eq!((status.phase.as_deref(), rewrapped_of(&status)), (Some("Detached"), ("True", "VolumeEmpty")));
    assert!(merged.notices.iter().all(|notice| !notice.warning), "{:?}", merged.notices);
    // Nobody but a Job looks, and nobody looks beside a pod that is heard.
    assert!(merge(&volume(None), &look("v2", true, ""), SIDECAR, Some("v2"), &at(2000)).is_none());
    let heard = EncryptedVolumeStatus {
        pod: Some("app".into()),
        last_check_in: Some(at(1990)),
        ..EncryptedVolumeStatus::default()
    };
    assert!(merge(&volume(Some(heard)), &look("v2", true, ""), JOB, Some("v2"), &at(2000)).is_none());
}

#[test]
fn what_a_job_could_not_count_is_unknown_and_said_once() {
    let plaintext = look("v2", false, "PlaintextFound");
    let first = merge(&volume(None), &plaintext, JOB, Some("v2"), &at(2000)).unwrap();
    assert_eq!((first.status.last_sweep.clone(), first.status.files), (None, None));
    let seen = first.status.not_counted.clone().unwrap();
    assert_eq!((seen.target_version.as_str(), seen.reason.as_str()), ("v2", "PlaintextFound"));
    assert_eq!(rewrapped_of(&first.status), ("Unknown", "PlaintextFound"));
    let said: Vec<_> = first.notices.iter().map(|notice| (notice.warning, notice.reason.as_str())).collect();
    assert_eq!(said, [(true, "PlaintextFound")]);
    let again = merge(&volume(Some(first.status.clone())), &plaintext, JOB, Some("v2"), &at(2030)).unwrap();
    assert_eq!(again.notices, []);
    // The files were taken away, and a person asked.
    let empty = look("v2", true, "VolumeEmpty");
    let cleaned = merge(&volume(Some(first.status)), &empty, JOB, Some("v2"), &at(2060)).unwrap();
    assert_eq!((cleaned.status.not_counted, cleaned.status.files), (None, Some(0)));
}

#[test]
fn a_marker_ends_what_was_seen_before_there_was_one() {
    for before in [look("v2", true, "VolumeEmpty"), look("v2", false, "PlaintextFound")] {
        let seen = merge(&volume(None), &before, JOB, Some("v2"), &at(2000)).unwrap().status;
        let served = merge(&volume(Some(seen)), &serving(0, None), SIDECAR, Some("v2"), &at(2100)).unwrap();
        let status = served.status;
        assert_eq!((status.last_sweep.clone(), status.files, status.not_counted.clone()), (None, None, None));
        assert_eq!(rewrapped_of(&status), ("Unknown", reasons::PENDING));
        // A look that ended before says nothing of it any more.
        assert_eq!(merge(&volume(Some(status)), &before, JOB, Some("v2"), &at(9000)), None);
    }
    let swept = serving(1, Some(sweep("v2", &[("v2", 4)], true)));
    let status = merge(&volume(None), &swept, SIDECAR, Some("v2"), &at(2000)).unwrap().status;
    assert_eq!(status.files, Some(4), "a first report with counts is taken whole");
    // A Job may find the marker that nobody has reported.
    let found = VolumeReport { marker: Some(marker("aa", 2)), ..look("v2", false, "MarkerFound") };
    let status = merge(&volume(None), &found, JOB, Some("v2"), &at(2000)).unwrap().status;
    assert_eq!((status.marker.unwrap().volume_id.as_str(), status.not_counted), ("aa", None));
}
