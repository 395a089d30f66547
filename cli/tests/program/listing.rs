//! `key list`, and what a change says of the volumes that it affects.

use serde_json::json;

use crate::bench::{Bench, Grants, KEY};
use crate::cluster::{PROFILES, cluster};

const VOLUMES: &str = "/apis/cofferdam.io/v1alpha1/namespaces";

fn status(current: &str) -> serde_json::Value {
    let version = |id: &str, files: u64, retirable: bool, reason: &str| {
        json!({"id": id, "createdAt": "2026-01-01T00:00:00Z", "files": files, "unknownVolumes": 1, "olderSnapshots": 0,
               "retirable": retirable, "reason": reason})
    };
    json!({
        "keyState": "Enabled", "currentVersion": current, "rotatedAt": "2026-02-01T00:00:00Z",
        "lastPoll": "2026-02-02T00:00:00Z", "conditions": [],
        "versions": [version(current, 12, false, "Current"), version("v-old", 0, true, "Unneeded")],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_with_what_still_needs_each_version() {
    let bench = Bench::start(Grants::default());
    let fake = cluster(&bench, bench.manifest(|profile| profile["status"] = status("v-new"))).await;
    let other = bench.manifest(|profile| profile["metadata"]["namespace"] = "blog".into());
    fake.put("/apis/cofferdam.io/v1alpha1/namespaces/blog/kmsprofiles/main", other);
    let ran = bench.folder.run("key list --kubeconfig @kubeconfig -o json").await;
    let keys = ran.json()["keys"].clone();
    assert_eq!((ran.code, keys.as_array().unwrap().len()), (0, 1));
    assert_eq!(
        (&keys[0]["profile"], &keys[0]["rootKey"], &keys[0]["state"], &keys[0]["provider"]),
        (&json!("shop/main"), &json!(KEY), &json!("Enabled"), &json!("keyProtect"))
    );
    let old = &keys[0]["versions"][1];
    assert_eq!((&old["id"], &old["retirable"], &old["files"]), (&json!("v-old"), &json!(true), &json!(0)));

    let ran = bench.folder.run("key list -A --kubeconfig @kubeconfig").await;
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("PROFILE    PROVIDER    KEY"), "{}", ran.out);
    assert!(
        lines.iter().any(|line| line.starts_with("blog/main") && line.contains("unknown")),
        "{}",
        ran.out
    );
    let old = lines.iter().find(|line| line.contains("v-old")).unwrap();
    assert_eq!(
        old.split_whitespace().collect::<Vec<_>>(),
        ["shop/main", "v-old", "2026-01-01T00:00:00Z", "0", "1", "0", "yes", "Unneeded"]
    );
    let ran = bench.folder.run("key list -n empty --kubeconfig @kubeconfig").await;
    assert!(ran.out.contains("no KmsProfile"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kms_itself_is_asked_on_request() {
    let bench = Bench::start(Grants::default());
    let fake = cluster(&bench, bench.manifest(|profile| profile["status"] = status("v-new"))).await;
    let ran = bench.folder.run("key list --live --kubeconfig @kubeconfig -o json").await;
    let live = ran.json()["keys"][0]["live"].clone();
    let current = live["currentVersion"].as_str().unwrap().to_owned();
    assert_eq!((ran.code, &live["state"], &live["versions"]), (0, &json!("Enabled"), &json!([current])));
    let ran = bench.folder.run("key list --live --kubeconfig @kubeconfig").await;
    assert!(ran.out.contains(&format!("Enabled, current {current}")), "the record is behind: {}", ran.out);
    fake.put(&format!("{PROFILES}/main"), bench.manifest(|profile| profile["status"] = status(&current)));
    let ran = bench.folder.run("key list --live --kubeconfig @kubeconfig").await;
    assert!(ran.out.contains("the same"), "{}", ran.out);

    let Bench { server, folder } = bench;
    drop(server);
    let ran = folder.run("key list --live --kubeconfig @kubeconfig").await;
    assert_eq!((ran.code, ran.out.contains("unknown: kms unavailable")), (69, true), "{}", ran.out);
    fake.remove("/api/v1/namespaces/shop/secrets/data");
    assert_eq!(folder.run("key list --live --kubeconfig @kubeconfig").await.code, 75);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_counts_the_volumes_that_hang_on_the_key() {
    let bench = Bench::start(Grants::default());
    let fake = cluster(&bench, bench.manifest(|_| {})).await;
    for (namespace, name, pod) in
        [("shop", "a", Some("app-0")), ("blog", "b", None), ("other", "c", Some("app-1"))]
    {
        let home = if namespace == "other" { "other" } else { "shop" };
        let spec =
            json!({"claimName": name, "bindingName": "b", "profile": {"name": "main", "namespace": home}});
        let meta = json!({"name": name, "namespace": namespace});
        let record = json!({"apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume", "metadata": meta,
                            "spec": spec, "status": {"pod": pod}});
        fake.put(&format!("{VOLUMES}/{namespace}/encryptedvolumes/{name}"), record);
    }
    let ran = bench.folder.run("key disable main --yes --kubeconfig @kubeconfig -o json").await;
    assert_eq!(ran.json()["affected"], json!({"volumes": 2, "pods": 1, "namespaces": 2}), "{}", ran.err);
    fake.forbid("/encryptedvolumes");
    bench.server.advance(31).unwrap();
    let ran = bench.folder.run("key enable main --yes --kubeconfig @kubeconfig -o json").await;
    assert_eq!((ran.code, ran.json()["affected"].is_null()), (0, true), "it is not known: {}", ran.err);
}
