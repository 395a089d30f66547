//! Which snapshots there are, or that nobody knows, against an API server in memory.
#![allow(clippy::unwrap_used)]

use axum::http::Method;
use serde_json::{Value, json};

use super::*;
use fake_api::FakeApi;

const ALL: &str = "/volumesnapshots";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn snapshot(name: &str, source: &Value, taken: Option<&str>) -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2026-03-01T10:00:00Z"},
        "spec": {"source": source}, "status": {"creationTime": taken},
    })
}

fn put(fake: &FakeApi, object: Value) {
    let path = format!(
        "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots/{}",
        object["metadata"]["name"].as_str().unwrap()
    );
    fake.put(&path, object);
}

async fn all(client: &Client) -> Result<Vec<Snapshot>, NotKnown> {
    list(client, Api::all_with(client.clone(), &resource())).await
}

#[tokio::test]
async fn each_is_read_with_its_claim_and_the_time_between_which_it_was_taken() {
    let (fake, client) = FakeApi::start().await;
    fake.serve(GROUP, Some(PLURAL));
    put(&fake, snapshot("a", &json!({"persistentVolumeClaimName": "files"}), Some("2026-03-01T10:00:07Z")));
    put(&fake, snapshot("b", &json!({"persistentVolumeClaimName": "files"}), None));
    put(&fake, snapshot("c", &json!({"volumeSnapshotContentName": "x"}), Some("2025-01-01T00:00:00Z")));
    let found = all(&client).await.unwrap();
    assert_eq!(of_namespace(&client, "shop").await.unwrap(), found);
    let [taken, pending, brought] = found.as_slice() else { unreachable!("three: {found:?}") };
    assert_eq!(
        (taken.namespace.as_str(), taken.name.as_str(), taken.claim.as_deref()),
        ("shop", "a", Some("files"))
    );
    assert_eq!(
        (taken.earliest, taken.latest),
        (Some(at("2026-03-01T10:00:00Z")), Some(at("2026-03-01T10:00:07Z")))
    );
    assert_eq!((pending.earliest, pending.latest), (Some(at("2026-03-01T10:00:00Z")), None));
    // It was there before its object.
    assert_eq!((brought.claim.as_deref(), brought.earliest), (None, Some(at("2025-01-01T00:00:00Z"))));
}

#[tokio::test]
async fn a_cluster_without_the_group_has_none_and_was_asked() {
    let (fake, client) = FakeApi::start().await;
    assert_eq!(all(&client).await.unwrap(), []);
    assert_eq!((fake.asked(&Method::GET, ALL).len(), fake.asked(&Method::GET, "/apis").len()), (1, 1));
}

#[tokio::test]
async fn an_outage_a_refusal_and_another_version_are_not_none() {
    let (fake, client) = FakeApi::start().await;
    for code in [403, 500, 503] {
        fake.fail_once(Method::GET, ALL, code);
        assert!(all(&client).await.is_err(), "{code}");
    }
    // The group is not there, and the API server could not say so.
    fake.fail_once(Method::GET, "/apis", 503);
    assert!(all(&client).await.is_err());
    fake.serve(GROUP, None);
    let other = all(&client).await.unwrap_err();
    assert!(other.to_string().contains("no volumesnapshots of v1"), "{other}");
}

#[tokio::test]
async fn no_volume_no_question() {
    let (fake, client) = FakeApi::start().await;
    assert_eq!(known(&client, &[]).await.unwrap(), []);
    assert_eq!(fake.asked(&Method::GET, ALL).len(), 0);
}
