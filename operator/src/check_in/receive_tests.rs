//! Check-ins against an API server in memory.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::http::Method;
use contract::check_in::{MarkerReport, SweepReport};
use contract::config::Ownership;
use serde_json::{Value, json};

use super::*;
use crate::check_in::Metrics;
use crate::check_in::sample::{report, token};
use fake_api::FakeApi;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const POD: &str = "/api/v1/namespaces/shop/pods/app";
const VOLUME: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/encryptedvolumes/files";
const PROFILE: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/kmsprofiles/main";

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {
            "initContainers": [{"name": SIDECAR_CONTAINER}], "containers": [{"name": "app"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A namespace with pod `app` on claim `files`, and its tokens.
async fn stage() -> (FakeApi, Arc<CheckIns>) {
    let (fake, client) = FakeApi::start().await;
    for name in ["app", "second"] {
        fake.put(&format!("/api/v1/namespaces/shop/pods/{name}"), pod(name));
        fake.accept_token(&token(name), "shop", name, &format!("uid-{name}"));
    }
    fake.put(
        VOLUME,
        json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume", "metadata": {"name": "files", "namespace": "shop"},
            "spec": {"claimName": "files", "bindingName": "app", "profile": {"name": "main"}},
        }),
    );
    fake.put(
        PROFILE,
        json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile", "metadata": {"name": "main", "namespace": "shop"},
            "spec": {
                "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
                "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
            },
            "status": {"currentVersion": "v2"},
        }),
    );
    let mut check_ins = CheckIns::new(client, Metrics::default());
    Arc::get_mut(&mut check_ins).unwrap().evictions.hurry(Duration::from_millis(20));
    (fake, check_ins)
}

fn from_sidecar(volume: VolumeReport) -> CheckIn {
    CheckIn { role: Role::Sidecar, volumes: vec![volume] }
}

fn serving() -> VolumeReport {
    let marker = MarkerReport {
        volume_id: "aa".into(),
        strict: false,
        seal: false,
        ownership: Ownership::Virtual,
        sweep_epoch: 1,
        uid: 65532,
        gid: 1000,
    };
    let sweep = SweepReport {
        target_version: "v2".into(),
        files_per_version: [("v2".to_owned(), 4)].into(),
        unknown: 0,
        rewrapped: 4,
        complete: true,
        completed_at: None,
    };
    let report = report("data", VolumePhase::Serving, reasons::SERVING);
    VolumeReport { marker: Some(marker), sweep: Some(sweep), ..report }
}

fn condition(fake: &FakeApi, path: &str) -> (String, String, String) {
    let conditions = fake.get(path).unwrap()["status"]["conditions"].as_array().unwrap().clone();
    let served = conditions.iter().find(|condition| condition["type"] == "cofferdam.io/Served").unwrap();
    let text = |field: &str| served[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn a_report_becomes_status_condition_events_and_an_order() {
    let (fake, check_ins) = stage().await;
    let reply = check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await.unwrap();
    let [order] = reply.volumes.as_slice() else { unreachable!("one order: {reply:?}") };
    assert_eq!(
        (order.name.as_str(), order.target_version.as_deref(), order.sweep_again),
        ("data", Some("v2"), false)
    );
    let status = fake.get(VOLUME).unwrap()["status"].clone();
    assert_eq!(
        (&status["phase"], &status["pod"], &status["files"]),
        (&json!("Serving"), &json!("app"), &json!(4))
    );
    assert_eq!(status["marker"]["volumeId"], "aa");
    assert_eq!(condition(&fake, POD).0, "True");
    // Kubelet's own conditions are still there.
    assert_eq!(fake.get(POD).unwrap()["status"]["conditions"].as_array().unwrap().len(), 2);
    let events = fake.event_reasons();
    assert!(events.contains(&"Serving".into()), "{events:?}");

    // The same again: no second review, patch or event.
    check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await.unwrap();
    assert_eq!(fake.asked(&Method::PATCH, "pods/app/status").len(), 1);
    assert_eq!(fake.event_reasons(), events);
}

#[tokio::test]
async fn a_conflict_is_written_anew_on_what_is_there_now() {
    let (fake, check_ins) = stage().await;
    fake.fail_once(Method::PUT, "encryptedvolumes/files/status", 409);
    let reply = check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await.unwrap();
    assert_eq!(reply.volumes.len(), 1);
    assert_eq!(fake.asked(&Method::PUT, "encryptedvolumes/files/status").len(), 2);
    assert_eq!(fake.get(VOLUME).unwrap()["status"]["phase"], "Serving");
}

#[tokio::test]
async fn nobody_reports_for_a_claim_that_is_not_mounted_or_for_a_pod_that_is_gone() {
    let (fake, check_ins) = stage().await;
    let foreign = VolumeReport { claim: "others".into(), ..serving() };
    let refused = check_ins.receive(&token("app"), PEER, &from_sidecar(foreign)).await;
    assert!(matches!(refused, Err(Refusal::Forbidden(_))), "{refused:?}");
    let unknown = check_ins.receive(&token("stranger"), PEER, &from_sidecar(serving())).await;
    assert!(matches!(unknown, Err(Refusal::Identity(_))), "{unknown:?}");
    // The same name, another pod.
    fake.remove(POD);
    let mut newer = pod("app");
    newer["metadata"]["uid"] = json!("uid-newer");
    fake.put(POD, newer);
    let gone = check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await;
    assert!(matches!(gone, Err(Refusal::Forbidden(_))), "{gone:?}");
    assert_eq!(fake.asked(&Method::PUT, "/status").len() + fake.asked(&Method::PATCH, "/status").len(), 0);
}

#[tokio::test]
async fn an_api_server_that_fails_is_no_refusal() {
    let (fake, check_ins) = stage().await;
    fake.fail_once(Method::GET, "pods/app", 500);
    let failed = check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await;
    assert!(matches!(failed, Err(Refusal::Api { .. })), "{failed:?}");
}

#[tokio::test]
async fn a_second_pod_waits_and_its_condition_names_the_first() {
    let (fake, check_ins) = stage().await;
    check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await.unwrap();
    let mut waiting = report("data", VolumePhase::Waiting, reasons::VOLUME_IN_USE);
    waiting.message = "another sidecar holds the lease".into();
    let reply = check_ins.receive(&token("second"), PEER, &from_sidecar(waiting.clone())).await.unwrap();
    assert_eq!(reply.volumes.len(), 1);
    let (status, reason, message) = condition(&fake, "/api/v1/namespaces/shop/pods/second");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "VolumeInUse"));
    assert!(message.contains("pod app has it"), "{message}");
    assert_eq!(fake.get(VOLUME).unwrap()["status"]["pod"], "app");
    // The message names it even before the first has checked in.
    let (fake, check_ins) = stage().await;
    check_ins.receive(&token("second"), PEER, &from_sidecar(waiting)).await.unwrap();
    assert!(condition(&fake, "/api/v1/namespaces/shop/pods/second").2.contains("pod app has it"));
}

#[tokio::test]
async fn a_lost_session_is_said_and_then_the_pod_is_evicted_once_and_patiently() {
    let (fake, check_ins) = stage().await;
    fake.fail_once(Method::POST, "pods/app/eviction", 429);
    let lost = report("data", VolumePhase::Failed, reasons::SESSION_LOST);
    for _ in 0..3 {
        check_ins.receive(&token("app"), PEER, &from_sidecar(lost.clone())).await.unwrap();
    }
    assert_eq!(condition(&fake, POD).1, "SessionLost");
    let evictions = || fake.asked(&Method::POST, "pods/app/eviction");
    for _ in 0..500 {
        if fake.event_reasons().contains(&"SessionLostEvicted".into()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reasons = fake.event_reasons();
    assert!(
        reasons.contains(&"EvictionDelayed".into()) && reasons.contains(&"SessionLostEvicted".into()),
        "{reasons:?}"
    );
    assert_eq!(evictions().len(), 2, "refused once by a budget, then done");
    assert_eq!(evictions()[1].2["deleteOptions"]["preconditions"]["uid"], "uid-app");
}

#[tokio::test]
async fn a_volume_without_a_record_still_gets_its_pods_condition() {
    let (fake, check_ins) = stage().await;
    fake.remove(VOLUME);
    let reply = check_ins.receive(&token("app"), PEER, &from_sidecar(serving())).await.unwrap();
    assert_eq!(reply.volumes, []);
    assert_eq!(condition(&fake, POD).0, "True");
}

#[test]
fn a_pod_speaks_only_as_what_it_is() {
    let pod = |value: Value| serde_json::from_value::<Pod>(value).unwrap();
    let injected = pod(json!({"spec": {"containers": [], "initContainers": [{"name": SIDECAR_CONTAINER}]}}));
    let owner = json!([{"kind": "Job", "name": "j", "uid": "u", "apiVersion": "batch/v1"}]);
    let job = pod(json!({
        "metadata": {"labels": {REWRAP_LABEL: "files"}, "ownerReferences": owner},
        "spec": {"containers": [{"name": JOB_CONTAINER}]},
    }));
    let other = pod(json!({"spec": {"containers": [{"name": "app"}]}}));
    assert!(speaks_as(&injected, Role::Sidecar).is_ok() && speaks_as(&job, Role::Job).is_ok());
    for (pod, role) in
        [(&injected, Role::Job), (&job, Role::Sidecar), (&other, Role::Sidecar), (&other, Role::Job)]
    {
        assert!(speaks_as(pod, role).is_err());
    }
}
