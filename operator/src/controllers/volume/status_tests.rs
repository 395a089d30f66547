//! A volume's status while pods, Jobs and the claim come and go.
#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::controllers::conditions;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A volume whose pod `app` checked in at second 1000 and served.
fn volume() -> EncryptedVolume {
    parse(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume", "metadata": {"name": "files", "namespace": "shop"},
        "spec": {"claimName": "files", "bindingName": "app", "profile": {"name": "main"}},
        "status": {
            "phase": "Serving", "message": "served", "pod": "app", "persistentVolume": "pv-1", "files": 5,
            "lastCheckIn": at(1000).0.to_string(),
            "marker": {"volumeId": "aa", "strict": false, "ownership": "Virtual", "sweepEpoch": 1, "uid": 1, "gid": 1},
            "lastSweep": {"targetVersion": "v1", "filesPerVersion": {"v1": 5}},
        },
    }))
}

fn pod(name: &str, made: i64) -> Pod {
    parse(json!({
        "metadata": {"name": name, "creationTimestamp": at(made).0.to_string()},
        "spec": {"containers": [], "initContainers": [{"name": "cofferdam-sidecar"}]},
    }))
}

fn around(pods: Vec<Pod>) -> Around {
    let claim: PersistentVolumeClaim =
        parse(json!({"metadata": {"name": "files"}, "spec": {"volumeName": "pv-1"}}));
    let profile = parse(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile", "metadata": {"name": "main"},
        "spec": {
            "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
            "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
        },
        "status": {"currentVersion": "v1"},
    }));
    Around {
        claim: Some(claim),
        persistent_volume_exists: true,
        kept: None,
        binding: None,
        profile: Some(profile),
        pods,
        jobs: vec![],
        job_pods: vec![],
        others_running: 0,
    }
}

fn after(volume: &EncryptedVolume, around: &Around, second: i64) -> EncryptedVolumeStatus {
    next(volume, around, &Plan::default(), &at(second))
}

fn phase_of(status: &EncryptedVolumeStatus) -> &str {
    status.phase.as_deref().unwrap()
}

#[test]
fn what_check_ins_say_stands_while_they_go_on_and_is_unknown_after() {
    let around = around(vec![pod("app", 0)]);
    assert_eq!(phase_of(&after(&volume(), &around, 1090)), "Serving");
    let silent = after(&volume(), &around, 1091);
    assert_eq!(phase_of(&silent), "Unknown");
    assert!(silent.message.as_ref().unwrap().contains("app"));
    assert_eq!(conditions::status(&silent.conditions, types::SUSPENDED), Some("Unknown"));
    // What was counted is still true of the files.
    assert_eq!(conditions::status(&silent.conditions, types::REWRAPPED), Some("True"));
}

#[test]
fn a_new_pod_is_given_time_to_check_in_and_then_its_silence_is_said() {
    let around = around(vec![pod("next", 1200)]);
    let young = after(&volume(), &around, 1210);
    assert_eq!((phase_of(&young), young.pod.as_deref()), ("Pending", None));
    assert_eq!(phase_of(&after(&volume(), &around, 1291)), "Unknown");
    // The same name again is another pod until it has spoken.
    let mut same_name = volume();
    same_name.status.as_mut().unwrap().pod = Some("next".into());
    assert_eq!(phase_of(&after(&same_name, &around, 1050)), "Pending");
    // Its own words, later, count.
    let mut spoken = volume();
    let status = spoken.status.as_mut().unwrap();
    (status.pod, status.last_check_in) = (Some("next".into()), Some(at(1280)));
    assert_eq!(phase_of(&after(&spoken, &around, 1291)), "Serving");
}

#[test]
fn without_a_pod_it_is_detached_and_says_what_a_job_waits_for() {
    let around = around(vec![]);
    let detached = after(&volume(), &around, 1010);
    assert_eq!((phase_of(&detached), detached.pod.as_deref(), detached.files), ("Detached", None, Some(5)));
    let waits = Plan { waits: Some("the window is closed".into()), ..Plan::default() };
    let message = next(&volume(), &around, &waits, &at(1010)).message.unwrap();
    assert!(message.contains("the window is closed"), "{message}");
    let mut running = around;
    running.jobs = vec![parse(json!({"metadata": {"name": "rewrap"}}))];
    assert_eq!(phase_of(&after(&volume(), &running, 1010)), "Sweeping");
    // What the Job itself says counts more.
    let mut said = volume();
    let status = said.status.as_mut().unwrap();
    (status.phase, status.pod) = (Some("Waiting".into()), Some("cofferdam-rewrap-1-1-abc".into()));
    let waiting = after(&said, &running, 1010);
    assert_eq!((phase_of(&waiting), waiting.pod.as_deref()), ("Waiting", Some("cofferdam-rewrap-1-1-abc")));
    assert_eq!(phase_of(&after(&said, &running, 1200)), "Sweeping");
}

#[test]
fn a_gone_claim_leaves_an_orphan_that_still_counts_and_a_release_is_said() {
    let mut around = around(vec![]);
    around.claim = None;
    let orphan = after(&volume(), &around, 1010);
    assert_eq!((phase_of(&orphan), orphan.files, orphan.last_sweep.is_some()), ("Orphaned", Some(5), true));
    assert_eq!(orphan.persistent_volume.as_deref(), Some("pv-1"));
    let mut released = volume();
    released.spec.release = true;
    assert_eq!(phase_of(&after(&released, &around, 1010)), "Orphaned", "a new claim of the name is not open");
}

#[test]
fn a_volume_that_nobody_has_looked_into_says_what_to_do() {
    let mut unseen = volume();
    let status = unseen.status.as_mut().unwrap();
    (status.marker, status.last_sweep) = (None, None);
    let message = after(&unseen, &around(vec![]), 1010).message.unwrap();
    assert!(message.contains("it counts as unknown until a pod has mounted it"), "{message}");
    let waits = Plan { waits: Some("the window is closed".into()), ..Plan::default() };
    let message = next(&unseen, &around(vec![]), &waits, &at(1010)).message.unwrap();
    assert!(message.contains("a look waits: the window is closed"), "{message}");
}

/// A volume without a marker, as a Job saw it.
fn looked_into() -> EncryptedVolume {
    let mut volume = volume();
    let status = volume.status.as_mut().unwrap();
    (status.marker, status.files) = (None, Some(0));
    status.last_sweep = parse(json!({"targetVersion": "v1"}));
    volume
}

#[test]
fn what_a_job_saw_in_a_volume_without_a_marker_counts_until_a_pod_that_may_write_comes() {
    let rewrapped = |status: &EncryptedVolumeStatus| {
        conditions::status(&status.conditions, types::REWRAPPED).unwrap().to_owned()
    };
    let empty = after(&looked_into(), &around(vec![]), 1010);
    assert_eq!((rewrapped(&empty).as_str(), empty.files), ("True", Some(0)));
    assert!(empty.message.unwrap().contains("found it empty"));
    let mounted = after(&looked_into(), &around(vec![pod("app", 1005)]), 1010);
    assert_eq!((mounted.last_sweep.clone(), mounted.files), (None, None));
    assert_eq!(rewrapped(&mounted), "Unknown");
    // What was counted of a volume with a marker stays.
    let counted = after(&volume(), &around(vec![pod("app", 1005)]), 1010);
    assert_eq!((counted.last_sweep.is_some(), counted.files), (true, Some(5)));
    // Who can only read has not changed it.
    let read = after(&looked_into(), &around(vec![reader()]), 1010);
    assert!(read.last_sweep.is_some());

    let mut unclear = looked_into();
    let status = unclear.status.as_mut().unwrap();
    status.last_sweep = None;
    status.not_counted = parse(json!({
        "targetVersion": "v1", "reason": "PlaintextFound", "message": "it holds 3 entries and no marker",
    }));
    let said = after(&unclear, &around(vec![]), 1010);
    assert_eq!((phase_of(&said), rewrapped(&said).as_str()), ("Detached", "Unknown"));
    let message = said.message.unwrap();
    assert!(message.contains("it holds 3 entries") && message.contains("sweep-requested"), "{message}");
    assert_eq!(after(&unclear, &around(vec![pod("app", 1005)]), 1010).not_counted, None);
}

/// A pod whose sidecar mounts the volume read-only.
fn reader() -> Pod {
    parse(json!({
        "metadata": {"name": "reader"},
        "spec": {
            "containers": [],
            "initContainers": [{
                "name": "cofferdam-sidecar", "volumeMounts": [{"name": "data", "mountPath": "/m", "readOnly": true}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}],
        },
    }))
}

#[test]
fn that_nothing_rewraps_a_volume_is_a_condition_as_long_as_it_is_so() {
    let of = |status: &EncryptedVolumeStatus| {
        let said = find(&status.conditions, types::REWRAP_WAITS)?;
        Some((said.status.clone(), said.reason.clone()))
    };
    let around = around(vec![reader()]);
    assert_eq!(of(&after(&volume(), &around, 1010)), None, "nothing is to be done");
    let stays = Plan { stays: Some("mounted read-only".into()), ..Plan::default() };
    let mut waiting = volume();
    waiting.status = Some(next(&volume(), &around, &stays, &at(1010)));
    let yes = Some(("True".to_owned(), reasons::MOUNTED_READ_ONLY.to_owned()));
    assert_eq!(of(waiting.status.as_ref().unwrap()), yes);
    assert_eq!(of(&after(&waiting, &around, 1020)).unwrap().0, "False");
}

#[test]
fn what_a_person_said_is_said_of_one_persistent_volume() {
    let mut around = around(vec![]);
    let mut said = volume();
    (said.spec.release, said.spec.acknowledged) = (true, true);
    let pinned = after(&said, &around, 1010);
    assert_eq!(phase_of(&pinned), "Released");
    assert_eq!(pinned.released_volume.as_deref(), Some("pv-1"));
    assert_eq!(pinned.acknowledged_volume.as_deref(), Some("pv-1"));
    said.status = Some(pinned);
    assert!(said.is_released() && said.is_acknowledged());

    around.claim = Some(parse(json!({"metadata": {"name": "files"}, "spec": {"volumeName": "pv-2"}})));
    said.status = Some(after(&said, &around, 1020));
    assert!(!said.is_released() && !said.is_acknowledged());
    assert_eq!(phase_of(said.status.as_ref().unwrap()), "Detached");
    // Nor before anybody had noted it.
    let mut unpinned = volume();
    unpinned.spec.release = true;
    unpinned.status = Some(after(&unpinned, &around, 1010));
    assert!(!unpinned.is_released());
    // Taken back, and said again of the new one.
    said.spec.release = false;
    said.status = Some(after(&said, &around, 1030));
    said.spec.release = true;
    said.status = Some(after(&said, &around, 1040));
    assert_eq!(phase_of(said.status.as_ref().unwrap()), "Released");
    assert!(!said.is_acknowledged());
}

#[test]
fn a_pod_that_began_before_the_claim_was_protected_is_named() {
    let mut open = pod("early", 0);
    open.spec.as_mut().unwrap().init_containers = None;
    let status = after(&volume(), &around(vec![pod("app", 0), open]), 1010);
    assert_eq!(phase_of(&status), "Failed");
    assert!(status.message.as_ref().unwrap().contains("pod early mounts it without the sidecar"));
    let said = find(&status.conditions, types::SUSPENDED).unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("Unknown", reasons::OPEN_POD));
    // Once it is gone, what check-ins say stands again.
    let mut after_it = volume();
    after_it.status = Some(status);
    for made in [0, 1015] {
        let gone = after(&after_it, &around(vec![pod("app", made)]), 1020);
        assert!(!gone.message.unwrap().contains("early"));
        assert_ne!(find(&gone.conditions, types::SUSPENDED).unwrap().reason, reasons::OPEN_POD);
    }
}

#[test]
fn nobody_is_said_to_be_served_while_a_new_pod_has_not_spoken() {
    let mut served = volume();
    let verdict = Verdict::no(reasons::READY, "data is served");
    put(&mut served.status.as_mut().unwrap().conditions, types::SUSPENDED, &verdict, None, &at(1000));
    let pending = after(&served, &around(vec![pod("next", 1200)]), 1210);
    assert_eq!(phase_of(&pending), "Pending");
    assert_eq!(conditions::status(&pending.conditions, types::SUSPENDED), Some("Unknown"));
}

#[test]
fn a_claim_with_another_persistent_volume_is_known_no_more() {
    let mut around = around(vec![]);
    around.claim = Some(parse(json!({"metadata": {"name": "files"}, "spec": {"volumeName": "pv-2"}})));
    let replaced = after(&volume(), &around, 1010);
    assert_eq!(
        (replaced.persistent_volume.as_deref(), replaced.marker, replaced.last_sweep),
        (Some("pv-2"), None, None)
    );
    assert_eq!(conditions::status(&replaced.conditions, types::REWRAPPED), Some("Unknown"));
}
