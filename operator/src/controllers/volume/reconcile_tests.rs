//! The controller against an API server in memory.
#![allow(clippy::unwrap_used)]

use axum::http::Method;
use serde_json::{Value, json};

use super::*;
use crate::controllers::sample::shared;
use fake_api::FakeApi;

pub(super) const VOLUME: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/encryptedvolumes/files";
pub(super) const CLAIM: &str = "/api/v1/namespaces/shop/persistentvolumeclaims/files";
const POD: &str = "/api/v1/namespaces/shop/pods/app";
const JOBS: &str = "/apis/batch/v1/namespaces/shop/jobs";

/// A detached volume, swept to v1; the current version is v2.
pub(super) async fn stage() -> (FakeApi, Arc<Shared>) {
    let (fake, client) = FakeApi::start().await;
    let ours = |kind: &str, name: &str| json!({"apiVersion": "cofferdam.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}});
    let with = |mut object: Value, spec: Value, status: Value| {
        (object["spec"], object["status"]) = (spec, status);
        object
    };
    let status = json!({
        "phase": "Serving", "pod": "app", "persistentVolume": "pv-1", "files": 5, "lastCheckIn": "2026-01-01T00:00:00Z",
        "marker": {"volumeId": "aa", "strict": false, "ownership": "Virtual", "sweepEpoch": 1, "uid": 65532, "gid": 1},
        "lastSweep": {"targetVersion": "v1", "filesPerVersion": {"v1": 5}},
    });
    let spec = json!({"claimName": "files", "bindingName": "app", "profile": {"name": "main"}});
    fake.put(VOLUME, with(ours("EncryptedVolume", "files"), spec, status));
    let spec = json!({
        "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
        "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
    });
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({
        "conditions": [ready], "currentVersion": "v2", "keyState": "Enabled", "versions": [{"id": "v2"}, {"id": "v1"}],
    });
    let profile = with(ours("KmsProfile", "main"), spec, status);
    fake.put("/apis/cofferdam.io/v1alpha1/namespaces/shop/kmsprofiles/main", profile);
    let binding = with(
        ours("StorageBinding", "app"),
        json!({"profile": {"name": "main"}, "claims": {"names": ["files"]}}),
        json!({}),
    );
    fake.put("/apis/cofferdam.io/v1alpha1/namespaces/shop/storagebindings/app", binding);
    let claim = json!({"metadata": {"name": "files", "namespace": "shop"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}});
    fake.put(CLAIM, claim);
    let persistent = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"}});
    fake.put("/api/v1/persistentvolumes/pv-1", persistent);
    (fake, Arc::new(shared(client)))
}

async fn run(fake: &FakeApi, shared: &Arc<Shared>) {
    run_for(fake, shared, VOLUME).await;
}

/// The claim was made anew, and is bound to this persistent volume.
pub(super) fn bind(fake: &FakeApi, persistent_volume: &str) {
    let mut claim = fake.get(CLAIM).unwrap();
    claim["spec"]["volumeName"] = json!(persistent_volume);
    fake.put(CLAIM, claim);
}

pub(super) async fn run_for(fake: &FakeApi, shared: &Arc<Shared>, record: &str) {
    let volume: EncryptedVolume = serde_json::from_value(fake.get(record).unwrap()).unwrap();
    reconcile(Arc::new(volume), shared.clone()).await.unwrap();
}

fn jobs(fake: &FakeApi) -> Vec<String> {
    fake.asked(&Method::POST, JOBS)
        .iter()
        .map(|(_, _, body)| body["metadata"]["name"].as_str().unwrap().into())
        .collect()
}

#[tokio::test]
async fn a_detached_volume_gets_one_job_and_loses_it_when_a_pod_comes() {
    let (fake, shared) = stage().await;
    run(&fake, &shared).await;
    let started = jobs(&fake);
    assert_eq!(started.len(), 1);
    assert!(fake.event_reasons().contains(&"DataCredentialUsed".into()), "{:?}", fake.event_reasons());
    run(&fake, &shared).await;
    assert_eq!(jobs(&fake), started, "one Job for a volume and a version");
    assert_eq!(fake.get(VOLUME).unwrap()["status"]["phase"], "Sweeping");

    // The Job's own pod is none that mounts the claim.
    let job_pod = json!({
        "metadata": {"name": "worker", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": started[0], "uid": format!("uid-of-{JOBS}/{}", started[0])},
        ]},
        "spec": {"containers": [], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}]},
    });
    fake.put("/api/v1/namespaces/shop/pods/worker", job_pod);
    run(&fake, &shared).await;
    assert!(fake.get(&format!("{JOBS}/{}", started[0])).is_some());

    let pod = json!({
        "metadata": {"name": "app", "creationTimestamp": conditions::now()},
        "spec": {"containers": [], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}]},
    });
    fake.put(POD, pod);
    run(&fake, &shared).await;
    assert_eq!(fake.get(&format!("{JOBS}/{}", started[0])), None);
    assert!(fake.event_reasons().contains(&"RewrapStopped".into()));
    run(&fake, &shared).await;
    assert_eq!(jobs(&fake), started, "none starts beside a pod");
}

#[tokio::test]
async fn a_claim_that_shall_go_or_is_bound_elsewhere_gets_no_job_and_loses_one() {
    let (fake, shared) = stage().await;
    run(&fake, &shared).await;
    let mut claim = fake.get(CLAIM).unwrap();
    claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fake.put(CLAIM, claim);
    run(&fake, &shared).await;
    assert_eq!(fake.asked(&Method::DELETE, &jobs(&fake)[0]).len(), 1);
    run(&fake, &shared).await;
    assert_eq!(jobs(&fake).len(), 1);

    let (fake, shared) = stage().await;
    bind(&fake, "pv-2");
    run(&fake, &shared).await;
    assert_eq!(jobs(&fake), [] as [&str; 0]);
    assert!(fake.event_reasons().contains(&"VolumeReplaced".into()));
}

#[tokio::test]
async fn a_record_goes_only_when_claim_and_persistent_volume_are_gone() {
    let (fake, shared) = stage().await;
    fake.remove(CLAIM);
    run(&fake, &shared).await;
    assert_eq!(fake.get(VOLUME).unwrap()["status"]["phase"], "Orphaned");
    assert_eq!(jobs(&fake), [] as [&str; 0], "no Job without a claim");
    fake.remove("/api/v1/persistentvolumes/pv-1");
    run(&fake, &shared).await;
    assert_eq!(fake.get(VOLUME), None);
}

#[tokio::test]
async fn a_status_that_is_as_it_should_be_is_not_written_again() {
    let (fake, shared) = stage().await;
    run(&fake, &shared).await;
    run(&fake, &shared).await;
    let writes = fake.asked(&Method::PUT, "encryptedvolumes/files/status").len();
    run(&fake, &shared).await;
    assert_eq!(fake.asked(&Method::PUT, "encryptedvolumes/files/status").len(), writes);
}

#[tokio::test]
async fn a_failed_job_is_said_once_of_the_volume_and_of_the_claim_with_its_pods_words() {
    let (fake, shared) = stage().await;
    run(&fake, &shared).await;
    run(&fake, &shared).await;
    let of = |type_: &str| {
        let status = fake.get(VOLUME).unwrap()["status"].clone();
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
    };
    assert_eq!((&of("DataCredentialUsed")["status"], of("RewrapFailed")), (&json!("True"), Value::Null));
    let path = format!("{JOBS}/{}", jobs(&fake)[0]);
    let mut job = fake.get(&path).unwrap();
    let pod = json!({
        "metadata": {"name": "worker", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job["metadata"]["uid"]},
        ]},
        "spec": {"containers": [], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}]},
        "status": {"containerStatuses": [{
            "name": "cofferdam-rewrap", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "lastState": {"terminated": {"exitCode": 77, "message": "cofferdam-sidecar: the KMS says no"}},
        }]},
    });
    fake.put("/api/v1/namespaces/shop/pods/worker", pod);
    run(&fake, &shared).await;
    assert_eq!(of("RewrapFailed")["status"], "Unknown");
    assert!(!fake.event_reasons().contains(&"RewrapFailed".into()), "it is tried again");

    fake.remove("/api/v1/namespaces/shop/pods/worker");
    let ended = json!({"type": "Failed", "status": "True", "lastTransitionTime": conditions::now()});
    job["status"] = json!({"conditions": [ended]});
    fake.put(&path, job);
    run(&fake, &shared).await;
    run(&fake, &shared).await;
    let events = fake.asked(&Method::POST, "/events");
    let failures: Vec<_> = events.iter().filter(|(_, _, event)| event["reason"] == "RewrapFailed").collect();
    let about: Vec<_> = failures.iter().map(|(_, _, event)| event["regarding"]["kind"].clone()).collect();
    assert_eq!(about, [json!("EncryptedVolume"), json!("PersistentVolumeClaim")]);
    for (_, _, event) in failures {
        assert_eq!(event["type"], "Warning");
        assert!(event["note"].as_str().unwrap().starts_with("KeyRefused: "), "{event}");
        assert!(event["note"].as_str().unwrap().ends_with("the KMS says no"), "{event}");
    }
    assert_eq!(of("RewrapFailed")["status"], "True");
}

#[tokio::test]
async fn a_bound_claim_that_no_pod_has_mounted_is_looked_into_by_one_job_that_is_not_said_to_rewrap() {
    let (fake, shared) = stage().await;
    let set = |status: Value| {
        let mut record = fake.get(VOLUME).unwrap();
        record["status"] = status;
        fake.put(VOLUME, record);
    };
    set(json!({"persistentVolume": "pv-1"}));
    run(&fake, &shared).await;
    let [started] = jobs(&fake).try_into().unwrap();
    let said = fake.event_reasons();
    let no_rewrap = |reason: &String| !["RewrapStarted", "DataCredentialUsed"].contains(&reason.as_str());
    assert!(said.contains(&"LookStarted".to_owned()) && said.iter().all(no_rewrap), "{said:?}");
    // It has found nothing, and its Job is over.
    let path = format!("{JOBS}/{started}");
    let mut job = fake.get(&path).unwrap();
    let ended = json!({"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    job["status"] = json!({"conditions": [ended]});
    fake.put(&path, job);
    set(json!({"persistentVolume": "pv-1", "lastSweep": {"targetVersion": "v2"}, "files": 0}));
    run(&fake, &shared).await;
    let status = fake.get(VOLUME).unwrap()["status"].clone();
    assert_eq!((&status["phase"], &status["files"]), (&json!("Detached"), &json!(0)));
    // What it found is not what it looked for.
    set(
        json!({"persistentVolume": "pv-1", "notCounted": {"targetVersion": "v2", "reason": "PlaintextFound", "message": "m"}}),
    );
    run(&fake, &shared).await;
    run(&fake, &shared).await;
    assert_eq!(jobs(&fake), [started], "one Job for a volume and a version");
}

#[tokio::test]
async fn a_volume_that_pods_only_read_says_once_that_nothing_rewraps_it() {
    let (fake, shared) = stage().await;
    let reader = |name: &str, read_only: bool| {
        json!({
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": conditions::now()},
            "spec": {
                "containers": [],
                "initContainers": [{
                    "name": "cofferdam-sidecar", "volumeMounts": [{"name": "data", "mountPath": "/m", "readOnly": read_only}],
                }],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}],
            },
        })
    };
    let waits = || {
        let status = fake.get(VOLUME).unwrap()["status"].clone();
        let all = status["conditions"].as_array().unwrap().clone();
        let said = all.into_iter().find(|condition| condition["type"] == "RewrapWaits")?;
        Some(said["status"].as_str().unwrap().to_owned())
    };
    fake.put(POD, reader("app", false));
    run(&fake, &shared).await;
    assert_eq!(waits(), None, "it sweeps");
    fake.put(POD, reader("app", true));
    fake.put("/api/v1/namespaces/shop/pods/other", reader("other", true));
    run(&fake, &shared).await;
    run(&fake, &shared).await;
    assert_eq!(waits().as_deref(), Some("True"));
    let said = fake.event_reasons().into_iter().filter(|reason| reason == "MountedReadOnly").count();
    assert_eq!(said, 1);
    assert_eq!(jobs(&fake), [] as [&str; 0]);
    fake.remove(POD);
    fake.remove("/api/v1/namespaces/shop/pods/other");
    run(&fake, &shared).await;
    assert_eq!((waits().as_deref(), jobs(&fake).len()), (Some("False"), 1));
}
