//! The controller against an API server in memory.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::controllers::sample;
use fake_api::FakeApi;

const OURS: &str = "/apis/cofferdam.io/v1alpha1/namespaces";
const KEY: &str = "7f7e3c1a-0000-4000-8000-00000000aaaa";

fn ours(kind: &str, namespace: &str, name: &str, spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "generation": 1}, "spec": spec, "status": status,
    })
}

fn profile(namespace: &str) -> Value {
    let spec = json!({
        "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": KEY},
        "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
    });
    let status = json!({
        "currentVersion": "v2", "keyId": KEY, "observedGeneration": 1, "versions": [{"id": "v2"}, {"id": "v1"}],
    });
    ours("KmsProfile", namespace, "main", &spec, &status)
}

/// A volume of the profile of its namespace, swept to `v2`, with this many files at `v1`.
fn volume(namespace: &str, old: u64) -> Value {
    let spec = json!({"claimName": "files", "bindingName": "app", "profile": {"name": "main"}});
    let sweep = json!({"targetVersion": "v2", "filesPerVersion": {"v2": 3, "v1": old}});
    let status = json!({"persistentVolume": "pv", "lastSweep": sweep});
    ours("EncryptedVolume", namespace, "files", &spec, &status)
}

#[tokio::test]
async fn a_key_version_is_retirable_only_where_no_profile_of_its_root_key_needs_it() {
    let (fake, client) = FakeApi::start().await;
    let shared = Arc::new(sample::shared(client));
    let main = format!("{OURS}/shop/kmsprofiles/main");
    fake.put(&main, profile("shop"));
    fake.put(&format!("{OURS}/bank/kmsprofiles/main"), profile("bank"));
    fake.put(&format!("{OURS}/shop/encryptedvolumes/files"), volume("shop", 0));
    let mut decided = vec![];
    for left in [4, 0] {
        fake.put(&format!("{OURS}/bank/encryptedvolumes/files"), volume("bank", left));
        let profile: KmsProfile = serde_json::from_value(fake.get(&main).unwrap()).unwrap();
        reconcile(Arc::new(profile), shared.clone()).await.unwrap();
        let version = fake.get(&main).unwrap()["status"]["versions"][1].clone();
        decided.push((version["retirable"].clone(), version["files"].clone()));
    }
    assert_eq!(decided, [(json!(false), json!(4)), (json!(true), json!(0))]);
}
