//! Volumes that their claim has left, and volumes of which only snapshots are left, against an API server in memory.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::tests::{CLAIM, VOLUME, bind, run_for, stage};
use super::*;
use fake_api::FakeApi;

const RECORDS: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/encryptedvolumes";
const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots";

/// The claim was deleted and made anew: it is bound to `pv-2`, and `pv-1` is retained.
async fn made_anew() -> (FakeApi, Arc<Shared>, String) {
    let (fake, shared) = stage().await;
    bind(&fake, "pv-2");
    let second = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-2"}});
    fake.put("/api/v1/persistentvolumes/pv-2", second);
    run_for(&fake, &shared, VOLUME).await;
    let left = fake.paths(&format!("{RECORDS}/files.left-"));
    (fake, shared, left.first().cloned().unwrap_or_default())
}

fn status(fake: &FakeApi, path: &str) -> Value {
    fake.get(path).unwrap()["status"].clone()
}

fn put_snapshot(fake: &FakeApi, claim: &str, asked: &str) {
    fake.serve("snapshot.storage.k8s.io", Some("volumesnapshots"));
    let snapshot = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": "nightly", "namespace": "shop", "creationTimestamp": asked},
        "spec": {"source": {"persistentVolumeClaimName": claim}},
    });
    fake.put(&format!("{SNAPSHOTS}/nightly"), snapshot);
}

#[tokio::test]
async fn the_volume_that_a_claim_has_left_goes_on_counting_until_it_is_gone() {
    let (fake, shared, left) = made_anew().await;
    let kept = fake.get(&left).unwrap();
    assert_eq!(
        (&kept["spec"]["claimName"], &kept["spec"]["persistentVolume"]),
        (&json!("files"), &json!("pv-1"))
    );
    assert_eq!((&kept["status"]["phase"], &kept["status"]["files"]), (&json!("Orphaned"), &json!(5)));
    assert_eq!(kept["status"]["lastSweep"]["filesPerVersion"], json!({"v1": 5}));
    assert!(fake.event_reasons().contains(&"Orphaned".into()), "{:?}", fake.event_reasons());
    let new = status(&fake, VOLUME);
    assert_eq!((&new["persistentVolume"], &new["marker"]), (&json!("pv-2"), &Value::Null));
    // It stays as it is while its persistent volume is there, whatever mounts the claim.
    run_for(&fake, &shared, &left).await;
    run_for(&fake, &shared, VOLUME).await;
    assert_eq!(
        (status(&fake, &left)["phase"].clone(), status(&fake, &left)["files"].clone()),
        (json!("Orphaned"), json!(5))
    );
    fake.remove("/api/v1/persistentvolumes/pv-1");
    run_for(&fake, &shared, &left).await;
    assert_eq!((fake.get(&left), fake.get(VOLUME).is_some()), (None, true));
}

#[tokio::test]
async fn a_volume_that_nobody_has_looked_into_counts_on_after_its_claim_has_left_it() {
    let (fake, shared) = stage().await;
    let put_unseen = || {
        let mut record = fake.get(VOLUME).unwrap();
        record["status"] = json!({"persistentVolume": "pv-1", "phase": "Detached"});
        fake.put(VOLUME, record);
    };
    put_unseen();
    bind(&fake, "pv-2");
    run_for(&fake, &shared, VOLUME).await;
    let left = fake.paths(&format!("{RECORDS}/files.left-"));
    assert_eq!(left.len(), 1);
    let kept: EncryptedVolume = serde_json::from_value(fake.get(&left[0]).unwrap()).unwrap();
    assert!(kept.may_hold_files() && kept.has_left_its_claim());
    assert_eq!(kept.status.unwrap().persistent_volume.as_deref(), Some("pv-1"));
    // Bound to it again, the claim's own record says as much.
    put_unseen();
    run_for(&fake, &shared, &left[0]).await;
    assert_eq!(fake.get(&left[0]), None);
}

#[tokio::test]
async fn a_volume_of_which_nothing_is_there_gets_no_record_of_its_own() {
    let (fake, shared) = stage().await;
    fake.remove("/api/v1/persistentvolumes/pv-1");
    bind(&fake, "pv-2");
    run_for(&fake, &shared, VOLUME).await;
    assert_eq!(fake.paths(&format!("{RECORDS}/files.left-")), [] as [&str; 0]);
    assert_eq!(status(&fake, VOLUME)["persistentVolume"], "pv-2");
}

#[tokio::test]
async fn what_is_known_is_not_forgotten_where_its_own_record_cannot_be_written() {
    let (fake, shared) = stage().await;
    bind(&fake, "pv-2");
    fake.fail_once(axum::http::Method::POST, "/encryptedvolumes", 500);
    let volume: EncryptedVolume = serde_json::from_value(fake.get(VOLUME).unwrap()).unwrap();
    assert!(reconcile(Arc::new(volume), shared.clone()).await.is_err());
    assert_eq!(
        (&status(&fake, VOLUME)["files"], &status(&fake, VOLUME)["persistentVolume"]),
        (&json!(5), &json!("pv-1"))
    );
}

#[tokio::test]
async fn a_person_acknowledges_the_volume_that_was_there_and_no_later_one() {
    let (fake, shared) = stage().await;
    let mut record = fake.get(VOLUME).unwrap();
    record["spec"]["acknowledged"] = json!(true);
    fake.put(VOLUME, record);
    bind(&fake, "pv-2");
    run_for(&fake, &shared, VOLUME).await;
    let left = fake.paths(&format!("{RECORDS}/files.left-"));
    assert_eq!(fake.get(&left[0]).unwrap()["spec"]["acknowledged"], true);
    let new = fake.get(VOLUME).unwrap();
    assert_eq!(
        (&new["spec"]["acknowledged"], &new["status"]["persistentVolume"]),
        (&json!(false), &json!("pv-2"))
    );
}

#[tokio::test]
async fn a_volume_that_a_claim_is_bound_to_again_is_counted_once() {
    let (fake, shared, left) = made_anew().await;
    let mut record = fake.get(VOLUME).unwrap();
    record["status"]["persistentVolume"] = json!("pv-1");
    record["status"]["phase"] = json!("Detached");
    fake.put(VOLUME, record.clone());
    run_for(&fake, &shared, &left).await;
    assert!(fake.get(&left).is_some(), "nobody has seen the marker there yet");
    record["status"]["marker"] = status(&fake, &left)["marker"].clone();
    fake.put(VOLUME, record);
    run_for(&fake, &shared, &left).await;
    assert_eq!(fake.get(&left), None);
}

#[tokio::test]
async fn a_record_stays_while_a_snapshot_holds_files_of_it_or_nobody_knows() {
    let (fake, shared) = stage().await;
    fake.remove(CLAIM);
    fake.remove("/api/v1/persistentvolumes/pv-1");
    fake.fail_once(axum::http::Method::GET, "/volumesnapshots", 503);
    run_for(&fake, &shared, VOLUME).await;
    let message = || status(&fake, VOLUME)["message"].as_str().unwrap().to_owned();
    assert!(message().contains("not known"), "{}", message());
    put_snapshot(&fake, "files", "2026-01-01T00:00:00Z");
    run_for(&fake, &shared, VOLUME).await;
    assert!(message().contains("VolumeSnapshot nightly"), "{}", message());
    assert_eq!(
        (status(&fake, VOLUME)["phase"].clone(), status(&fake, VOLUME)["files"].clone()),
        (json!("Orphaned"), json!(5))
    );
    put_snapshot(&fake, "others", "2026-01-01T00:00:00Z");
    run_for(&fake, &shared, VOLUME).await;
    assert_eq!(fake.get(VOLUME), None);
}

#[tokio::test]
async fn a_snapshot_that_was_taken_after_the_claim_was_made_anew_does_not_hold_the_old_volume() {
    for (asked, stays) in [("2026-01-01T00:00:00Z", true), ("2026-01-03T00:00:00Z", false)] {
        let (fake, shared, left) = made_anew().await;
        let mut record = fake.get(&left).unwrap();
        record["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
        fake.put(&left, record);
        put_snapshot(&fake, "files", asked);
        fake.remove("/api/v1/persistentvolumes/pv-1");
        run_for(&fake, &shared, &left).await;
        assert_eq!(fake.get(&left).is_some(), stays, "{asked}");
    }
}
