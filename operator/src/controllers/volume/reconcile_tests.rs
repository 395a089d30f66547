//! The controller against an API server in memory.
#![allow(clippy::unwrap_used)]

use axum::http::Method;
use serde_json::{Value, json};

use super::*;
use crate::controllers::events::Events;
use crate::controllers::{Connections, Figures};
use crate::fake_api::FakeApi;
use crate::settings::InjectionSettings;

const VOLUME: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/encryptedvolumes/files";
const CLAIM: &str = "/api/v1/namespaces/shop/persistentvolumeclaims/files";
const POD: &str = "/api/v1/namespaces/shop/pods/app";
const JOBS: &str = "/apis/batch/v1/namespaces/shop/jobs";

/// A detached volume, swept to v1; the current version is v2.
async fn stage() -> (FakeApi, Arc<Shared>) {
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
    let status =
        json!({"currentVersion": "v2", "keyState": "Enabled", "versions": [{"id": "v2"}, {"id": "v1"}]});
    let profile = with(ours("KmsProfile", "main"), spec, status);
    fake.put("/apis/cofferdam.io/v1alpha1/namespaces/shop/kmsprofiles/main", profile);
    let binding = with(
        ours("StorageBinding", "app"),
        json!({"profile": {"name": "main"}, "claims": {"names": ["files"]}}),
        json!({}),
    );
    fake.put("/apis/cofferdam.io/v1alpha1/namespaces/shop/storagebindings/app", binding);
    let claim =
        json!({"metadata": {"name": "files"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}});
    fake.put(CLAIM, claim);
    let persistent = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"}});
    fake.put("/api/v1/persistentvolumes/pv-1", persistent);
    let jobs = InjectionSettings {
        image: "cofferdam:1".into(),
        image_pull_policy: "Never".into(),
        operator_url: "https://operator:8443".into(),
        sidecar_cpu: "500m".into(),
        sidecar_memory: "128Mi".into(),
        mesh_exclusion: true,
    };
    let shared = Shared {
        events: Events::new(client.clone()),
        client,
        connections: Connections::default(),
        jobs,
        figures: Figures::default(),
    };
    (fake, Arc::new(shared))
}

async fn run(fake: &FakeApi, shared: &Arc<Shared>) {
    let volume: EncryptedVolume = serde_json::from_value(fake.get(VOLUME).unwrap()).unwrap();
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
    let mut claim = fake.get(CLAIM).unwrap();
    claim["spec"]["volumeName"] = json!("pv-2");
    fake.put(CLAIM, claim);
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
