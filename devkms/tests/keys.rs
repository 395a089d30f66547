//! The KMS over http: what a provider relies on. Each test has a server of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use devkms::Rules;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Caller, Got, KEY, start};

#[tokio::test]
async fn a_wrapped_key_unwraps_with_its_aad_and_with_nothing_else() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let wrapped = reader.wrap(&["volume", "file"]).await;
    let ciphertext = &wrapped["ciphertext"];
    let opened =
        reader.action("unwrap", &json!({"ciphertext": ciphertext, "aad": ["volume", "file"]})).await.ok();
    assert_eq!(opened["plaintext"], wrapped["plaintext"]);
    assert_eq!(opened["keyVersion"], wrapped["keyVersion"]);
    assert!(opened.get("rewrappedKeyVersion").is_none() && opened.get("ciphertext").is_none());
    for aad in [json!(["file", "volume"]), json!(["volume"]), json!([])] {
        let got = reader.action("unwrap", &json!({"ciphertext": ciphertext, "aad": aad})).await;
        assert_eq!(got.refusal(), (422, "UNPROCESSABLE_CIPHERTEXT_ERR"), "{aad}");
    }
    let got = reader.action("unwrap", &json!({"ciphertext": "not base64!"})).await;
    assert_eq!(got.refusal(), (400, "INVALID_FIELD_ERR"));
    assert_eq!(got.body["resources"][0]["reasons"][0]["target"]["name"], "ciphertext");
}

#[tokio::test]
async fn a_given_data_key_is_wrapped_and_not_repeated() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let got = reader.action("wrap", &json!({"plaintext": "AAECAwQFBgc="})).await.ok();
    assert!(got.get("plaintext").is_none());
    let opened = reader.action("unwrap", &json!({"ciphertext": got["ciphertext"]})).await.ok();
    assert_eq!(opened["plaintext"], "AAECAwQFBgc=");
    let bare = reader.request(Method::POST, &format!("keys/{KEY}/actions/wrap")).send().await.unwrap();
    assert_eq!(Got::of(bare).await.ok()["plaintext"].as_str().unwrap().len(), 44, "32 bytes in base64");
    assert_eq!(
        reader.action("wrap", &json!({"plaintext": "AAE"})).await.refusal(),
        (400, "INVALID_FIELD_ERR")
    );
    let long = "x".repeat(256);
    assert_eq!(reader.action("wrap", &json!({"aad": [long]})).await.refusal(), (400, "INVALID_FIELD_ERR"));
}

#[tokio::test]
async fn a_retired_version_opens_and_brings_the_new_ciphertext_along() {
    let server = start();
    let (reader, writer) = (Caller::new(&server, "reader").await, Caller::new(&server, "writer").await);
    let old = reader.wrap(&["a"]).await;
    let first = reader.metadata().await["keyVersion"]["id"].clone();
    assert_eq!(old["keyVersion"]["id"], first);
    assert_eq!(writer.action("rotate", &json!({})).await.status, 204);
    let second = reader.metadata().await["keyVersion"]["id"].clone();
    assert_ne!(first, second);

    let body = json!({"ciphertext": old["ciphertext"], "aad": ["a"]});
    let opened = reader.action("unwrap", &body).await.ok();
    assert_eq!((&opened["plaintext"], &opened["keyVersion"]["id"]), (&old["plaintext"], &first));
    assert_eq!(opened["rewrappedKeyVersion"]["id"], second);
    let again =
        reader.action("unwrap", &json!({"ciphertext": opened["ciphertext"], "aad": ["a"]})).await.ok();
    assert_eq!((&again["plaintext"], &again["keyVersion"]["id"]), (&old["plaintext"], &second));
    assert!(again.get("rewrappedKeyVersion").is_none());

    let rewrapped = reader.action("rewrap", &body).await.ok();
    assert!(rewrapped.get("plaintext").is_none(), "rewrap never shows the data key");
    assert_eq!((&rewrapped["keyVersion"]["id"], &rewrapped["rewrappedKeyVersion"]["id"]), (&first, &second));
    let versions = reader.get(&format!("keys/{KEY}/versions?totalCount=true")).await.ok();
    let ids: Vec<&Value> = versions["resources"].as_array().unwrap().iter().map(|v| &v["id"]).collect();
    assert_eq!(ids, [&second, &first], "newest first");
    assert_eq!(versions["metadata"]["totalCount"], 2);
}

#[tokio::test]
async fn six_rotations_later_the_oldest_ciphertext_still_opens() {
    let server = start();
    let (reader, writer) = (Caller::new(&server, "reader").await, Caller::new(&server, "writer").await);
    let old = reader.wrap(&[]).await;
    for _ in 0..6 {
        server.set_rules(|rules| rules.rotation_interval = 0);
        writer.action("rotate", &json!({})).await.ok();
    }
    let opened = reader.action("unwrap", &json!({"ciphertext": old["ciphertext"]})).await.ok();
    assert_eq!(opened["plaintext"], old["plaintext"]);
}

#[tokio::test]
async fn rotation_waits_an_hour_unless_the_rule_is_relaxed() {
    let server = start();
    let writer = Caller::new(&server, "writer").await;
    writer.action("rotate", &json!({})).await.ok();
    assert_eq!(writer.action("rotate", &json!({})).await.refusal(), (409, "KEY_ROTATION_NOT_PERMITTED"));
    server.advance(3595).unwrap();
    let writer = Caller::new(&server, "writer").await;
    assert_eq!(writer.action("rotate", &json!({})).await.refusal(), (409, "KEY_ROTATION_NOT_PERMITTED"));
    server.advance(6).unwrap();
    assert_eq!(writer.action("rotate", &json!({})).await.status, 204);
    server.set_rules(|rules| rules.rotation_interval = 0);
    assert_eq!(writer.action("rotate", &json!({})).await.status, 204);
    let generated = writer.action("rotate", &json!({"payload": "AAECAwQFBgcICQoLDA0ODw=="})).await;
    assert_eq!(generated.refusal(), (400, "INVALID_FIELD_ERR"), "a generated key takes no payload");
}

#[tokio::test]
async fn a_disabled_key_refuses_everything_until_it_is_enabled_after_30_s() {
    let server = start();
    let (reader, manager) = (Caller::new(&server, "reader").await, Caller::new(&server, "manager").await);
    let wrapped = reader.wrap(&[]).await;
    let body = json!({"ciphertext": wrapped["ciphertext"]});
    assert_eq!(manager.action("disable", &json!({})).await.status, 204);
    for action in ["wrap", "unwrap", "rewrap"] {
        assert_eq!(
            reader.action(action, &body).await.refusal(),
            (409, "KEY_ACTION_INVALID_STATE_ERR"),
            "{action}"
        );
    }
    assert_eq!(manager.action("rotate", &json!({})).await.refusal(), (409, "KEY_ACTION_INVALID_STATE_ERR"));
    assert_eq!(reader.get(&format!("keys/{KEY}/versions")).await.status, 409);
    assert_eq!(reader.get(&format!("keys/{KEY}/versions?allKeyStates=true")).await.status, 200);
    assert_eq!(reader.metadata().await["state"], 2);
    assert_eq!(manager.action("enable", &json!({})).await.refusal(), (409, "REQ_TOO_EARLY_ERR"));
    server.advance(30).unwrap();
    assert_eq!(manager.action("enable", &json!({})).await.status, 204);
    assert_eq!(reader.action("unwrap", &body).await.ok()["plaintext"], wrapped["plaintext"]);
    assert_eq!(manager.action("enable", &json!({})).await.refusal(), (409, "KEY_ACTION_INVALID_STATE_ERR"));
}

#[tokio::test]
async fn an_expired_key_unwraps_rewraps_and_rotates_but_does_not_wrap() {
    let server = start();
    let manager = Caller::new(&server, "manager").await;
    let resource = json!({"name": "short", "extractable": false, "expirationDate": expiry(3000)});
    let made = manager.post("keys", &one(resource)).await.ok();
    let id = made["resources"][0]["id"].as_str().unwrap().to_owned();
    let act = |name: &str| format!("keys/{id}/actions/{name}");
    let wrapped = manager.post(&act("wrap"), &json!({})).await.ok();
    server.advance(3001).unwrap();
    let body = json!({"ciphertext": wrapped["ciphertext"]});
    assert_eq!(manager.post(&act("wrap"), &json!({})).await.refusal(), (400, "KEY_EXPIRED_ERR"));
    assert_eq!(manager.post(&act("unwrap"), &body).await.ok()["plaintext"], wrapped["plaintext"]);
    assert_eq!(manager.post(&act("rewrap"), &body).await.status, 200);
    assert_eq!(manager.post(&act("rotate"), &json!({})).await.status, 204);
    assert_eq!(
        manager.post(&act("disable"), &json!({})).await.refusal(),
        (409, "KEY_ACTION_INVALID_STATE_ERR")
    );
    assert_eq!(manager.get(&format!("keys/{id}/metadata")).await.ok()["resources"][0]["state"], 3);
}

#[tokio::test]
async fn a_deleted_key_is_gone_restorable_for_30_days_and_purged_after_90() {
    let server = start();
    let (reader, manager) = (Caller::new(&server, "reader").await, Caller::new(&server, "manager").await);
    let wrapped = reader.wrap(&[]).await;
    let body = json!({"ciphertext": wrapped["ciphertext"]});
    assert_eq!(manager.delete(&format!("keys/{KEY}")).await.status, 204);
    let gone = reader.action("unwrap", &body).await;
    assert_eq!(gone.status, 410);
    assert!(gone.body["resources"][0].get("reasons").is_none(), "{}", gone.body);
    assert!(gone.body["resources"][0]["errorMsg"].as_str().unwrap().starts_with("Gone: "));
    assert_eq!(reader.action("wrap", &json!({})).await.refusal(), (410, "KEY_DELETED_ERR"));
    assert_eq!(manager.delete(&format!("keys/{KEY}")).await.refusal(), (410, "KEY_DELETED_ERR"));
    let metadata = reader.metadata().await;
    assert_eq!((&metadata["state"], &metadata["deleted"]), (&json!(5), &json!(true)));
    let listed = reader.get("keys").await.ok();
    assert_eq!(listed["metadata"]["collectionTotal"], 0, "destroyed keys are listed only when asked for");
    assert_eq!(reader.get("keys?state=5").await.ok()["metadata"]["collectionTotal"], 1);

    let restore = format!("keys/{KEY}/restore");
    assert_eq!(manager.post(&restore, &Value::Null).await.refusal(), (409, "REQ_TOO_EARLY_ERR"));
    server.advance(30).unwrap();
    assert_eq!(manager.post(&restore, &Value::Null).await.status, 201);
    assert_eq!(reader.action("unwrap", &body).await.ok()["plaintext"], wrapped["plaintext"]);

    assert_eq!(manager.delete(&format!("keys/{KEY}")).await.status, 204);
    let purger = Caller::new(&server, "purger").await;
    assert_eq!(purger.delete(&format!("keys/{KEY}/purge")).await.refusal(), (409, "REQ_TOO_EARLY_ERR"));
    server.advance(30 * 86_400).unwrap();
    let manager = Caller::new(&server, "manager").await;
    assert_eq!(manager.post(&restore, &Value::Null).await.refusal(), (400, "KEY_RESTORE_EXPIRED"));
    server.advance(60 * 86_400).unwrap();
    let manager = Caller::new(&server, "manager").await;
    assert_eq!(manager.get(&format!("keys/{KEY}/metadata")).await.refusal(), (404, "KEY_NOT_FOUND_ERR"));
}

#[tokio::test]
async fn a_purge_takes_its_own_role_and_four_hours() {
    let server = start();
    let manager = Caller::new(&server, "manager").await;
    manager.delete(&format!("keys/{KEY}")).await.ok();
    assert_eq!(manager.delete(&format!("keys/{KEY}/purge")).await.refusal(), (401, "UNAUTHORIZED_ERR"));
    server.advance(4 * 3600).unwrap();
    let purger = Caller::new(&server, "purger").await;
    assert_eq!(purger.delete(&format!("keys/{KEY}/purge")).await.status, 204);
    let manager = Caller::new(&server, "manager").await;
    assert_eq!(manager.get(&format!("keys/{KEY}/metadata")).await.status, 404);
}

#[tokio::test]
async fn two_persons_delete_a_key_with_dual_authorization() {
    let server = start();
    let (one_manager, other) =
        (Caller::new(&server, "manager").await, Caller::new(&server, "other-manager").await);
    let set = format!("keys/{KEY}/actions/setKeyForDeletion");
    assert_eq!(one_manager.post(&set, &Value::Null).await.refusal(), (409, "NOT_DUAL_AUTH_ERR"));
    let policy = json!({"metadata": {"collectionType": "application/vnd.ibm.kms.policy+json", "collectionTotal": 1},
        "resources": [{"type": "application/vnd.ibm.kms.policy+json", "dualAuthDelete": {"enabled": true}}]});
    let put =
        one_manager.request(Method::PUT, &format!("keys/{KEY}/policies?policy=dualAuthDelete")).json(&policy);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let delete = format!("keys/{KEY}");
    assert_eq!(other.delete(&delete).await.refusal(), (409, "AUTHORIZATIONS_NOT_MET"));
    assert_eq!(one_manager.post(&set, &Value::Null).await.status, 204);
    assert_eq!(
        one_manager.delete(&delete).await.refusal(),
        (409, "AUTHORIZATIONS_NOT_MET"),
        "not both by one"
    );
    server.advance(7 * 86_400).unwrap();
    let (one_manager, other) =
        (Caller::new(&server, "manager").await, Caller::new(&server, "other-manager").await);
    assert_eq!(
        other.delete(&delete).await.refusal(),
        (409, "AUTHORIZATIONS_NOT_MET"),
        "an authorization lasts a week"
    );
    assert_eq!(one_manager.post(&set, &Value::Null).await.status, 204);
    assert_eq!(other.delete(&delete).await.status, 204);
}

#[tokio::test]
async fn a_rotation_policy_rotates_when_its_time_comes() {
    let server = start();
    let manager = Caller::new(&server, "manager").await;
    let policy = json!({"metadata": {"collectionType": "x", "collectionTotal": 1}, "resources": [{"rotation": {"enabled": true, "interval_month": 1}}]});
    let put =
        manager.request(Method::PUT, &format!("keys/{KEY}/policies")).json(&policy).send().await.unwrap();
    assert_eq!(put.status(), 200);
    let first = manager.metadata().await["keyVersion"]["id"].clone();
    server.advance(30 * 86_400 - 60).unwrap();
    let manager = Caller::new(&server, "manager").await;
    assert_eq!(manager.metadata().await["keyVersion"]["id"], first);
    server.advance(61).unwrap();
    let metadata = manager.metadata().await;
    assert_ne!(metadata["keyVersion"]["id"], first);
    assert_eq!(metadata["rotation"], json!({"enabled": true, "interval_month": 1}));
}

#[tokio::test]
async fn a_key_is_found_by_alias_and_by_its_ring_only() {
    let server = start();
    let manager = Caller::new(&server, "manager").await;
    assert_eq!(manager.post(&format!("keys/{KEY}/aliases/blue"), &Value::Null).await.status, 201);
    assert_eq!(manager.get("keys/blue/metadata").await.ok()["resources"][0]["id"], KEY);
    assert_eq!(
        manager.post(&format!("keys/{KEY}/aliases/blue"), &Value::Null).await.refusal(),
        (409, "KEY_ALIAS_NOT_UNIQUE_ERR")
    );
    assert_eq!(
        manager.post(&format!("keys/{KEY}/aliases/wrap"), &Value::Null).await.refusal(),
        (400, "INVALID_FIELD_ERR")
    );
    assert_eq!(manager.post("key_rings/ring-1", &Value::Null).await.status, 201);
    let in_ring =
        |ring: &str| manager.request(Method::GET, "keys/blue/metadata").header("X-Kms-Key-Ring", ring);
    assert_eq!(Got::of(in_ring("ring-1").send().await.unwrap()).await.refusal(), (404, "KEY_NOT_FOUND_ERR"));
    let patch = manager.request(Method::PATCH, &format!("keys/{KEY}")).json(&json!({"keyRingID": "ring-1"}));
    assert_eq!(patch.send().await.unwrap().status(), 200);
    assert_eq!(in_ring("ring-1").send().await.unwrap().status(), 200);
    assert_eq!(manager.delete("key_rings/ring-1").await.refusal(), (409, "KEY_RING_NOT_EMPTY_ERR"));
    assert_eq!(manager.delete("key_rings/default").await.refusal(), (400, "INVALID_FIELD_ERR"));
}

#[tokio::test]
async fn lists_are_filtered_searched_sorted_and_paged() {
    let server = start();
    let writer = Caller::new(&server, "writer").await;
    for name in ["alpha", "beta", "gamma"] {
        writer.post("keys", &one(json!({"name": name, "extractable": name == "beta"}))).await.ok();
    }
    let names = async |path: &str| -> Vec<String> {
        let list = writer.get(path).await.ok()["resources"].as_array().unwrap().clone();
        let mut names: Vec<String> = list.iter().map(|k| k["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("keys").await, ["alpha", "beta", "gamma", "root"]);
    assert_eq!(names("keys?extractable=true").await, ["beta"]);
    assert_eq!(names("keys?filter=extractable%3Dfalse").await, ["alpha", "gamma", "root"]);
    assert_eq!(names("keys?search=amm").await, ["gamma"]);
    assert_eq!(names("keys?search=not:exact:root").await, ["alpha", "beta", "gamma"]);
    assert_eq!(names("keys?search=not:amm&limit=2&offset=1").await.len(), 2);
    let head = writer.request(Method::HEAD, "keys").send().await.unwrap();
    assert_eq!(head.headers()["key-total"], "4");
    let sorted = writer.get("keys?sort=-creationDate,id&limit=10").await.ok();
    assert_eq!(sorted["metadata"]["collectionTotal"], 4);
    assert_eq!(writer.get("keys?limit=0").await.refusal(), (400, "INVALID_FIELD_ERR"));
}

#[tokio::test]
async fn only_a_standard_key_shows_its_payload_and_only_to_whom_may_read() {
    let server = start();
    let (reader, writer) = (Caller::new(&server, "reader").await, Caller::new(&server, "writer").await);
    let standard = writer
        .post("keys", &one(json!({"name": "std", "extractable": true, "payload": "aGVsbG8="})))
        .await
        .ok();
    let id = standard["resources"][0]["id"].as_str().unwrap();
    assert_eq!(writer.get(&format!("keys/{id}")).await.ok()["resources"][0]["payload"], "aGVsbG8=");
    assert_eq!(reader.get(&format!("keys/{id}")).await.refusal(), (401, "UNAUTHORIZED_ERR"));
    assert!(writer.get(&format!("keys/{KEY}")).await.ok()["resources"][0].get("payload").is_none());
    assert_eq!(
        reader.post(&format!("keys/{id}/actions/wrap"), &json!({})).await.refusal(),
        (400, "KEY_ROOT_REQ_ERR")
    );
}

#[tokio::test]
async fn a_body_that_is_not_quite_right_is_refused() {
    let server = start();
    let writer = Caller::new(&server, "writer").await;
    let create = async |body: Value| writer.post("keys", &body).await.code().to_owned();
    assert_eq!(create(json!({"resources": [{"name": "x"}]})).await, "BAD_BODY_ERR", "no metadata");
    assert_eq!(create(one(json!({"name": "x", "extra": 1}))).await, "BAD_BODY_ERR");
    assert_eq!(
        create(one(json!({"name": "x", "extractable": false, "payload": "AAEC"}))).await,
        "INVALID_FIELD_ERR",
        "no AES key"
    );
    assert_eq!(
        create(one(json!({"name": "x", "rotation": {"enabled": true, "interval_month": 1}}))).await,
        "BAD_BODY_ERR"
    );
    assert_eq!(writer.action("unwrap", &json!({"cipher": "x"})).await.code(), "BAD_BODY_ERR");
    let empty = writer.request(Method::POST, &format!("keys/{KEY}/actions/unwrap")).send().await.unwrap();
    assert_eq!(Got::of(empty).await.code(), "NO_BODY_ERR");
}

#[tokio::test]
async fn keys_with_the_same_imported_material_open_each_others_ciphertext() {
    let server = start();
    let writer = Caller::new(&server, "writer").await;
    let material = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let import = async || {
        let made = writer
            .post("keys", &one(json!({"name": "byok", "extractable": false, "payload": material})))
            .await
            .ok();
        made["resources"][0]["id"].as_str().unwrap().to_owned()
    };
    let (one_id, other_id) = (import().await, import().await);
    let wrapped = writer.post(&format!("keys/{one_id}/actions/wrap"), &json!({})).await.ok();
    let body = json!({"ciphertext": wrapped["ciphertext"]});
    let opened = writer.post(&format!("keys/{other_id}/actions/unwrap"), &body).await.ok();
    assert_eq!(opened["plaintext"], wrapped["plaintext"]);
    assert_eq!(writer.action("unwrap", &body).await.refusal(), (422, "UNPROCESSABLE_CIPHERTEXT_ERR"));
    let rotate = writer.post(&format!("keys/{one_id}/actions/rotate"), &json!({})).await;
    assert_eq!(rotate.refusal(), (400, "KEY_PAYLOAD_REQ_ERR"));
}

#[tokio::test]
async fn statuses_that_are_not_known_for_sure_can_be_chosen() {
    let server = start();
    server.set_rules(|rules| {
        *rules = Rules { denied_status: 403, bad_ciphertext_status: 400, ..Rules::default() }
    });
    let reader = Caller::new(&server, "reader").await;
    assert_eq!(reader.action("rotate", &json!({})).await.status, 403);
    assert_eq!(reader.action("unwrap", &json!({"ciphertext": "AAAA"})).await.status, 400);
}

#[tokio::test]
async fn the_deprecated_action_query_does_the_same() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let wrapped = reader.post(&format!("keys/{KEY}?action=wrap"), &json!({})).await.ok();
    let opened = reader
        .post(&format!("keys/{KEY}?action=unwrap"), &json!({"ciphertext": wrapped["ciphertext"]}))
        .await
        .ok();
    assert_eq!(opened["plaintext"], wrapped["plaintext"]);
    assert_eq!(reader.get("nothing/here").await.status, 404);
}

fn one(resource: Value) -> Value {
    let resources = Value::Array(vec![resource]);
    json!({"metadata": {"collectionType": "application/vnd.ibm.kms.key+json", "collectionTotal": 1}, "resources": resources})
}

/// RFC 3339 of the moment that many seconds from now.
fn expiry(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}
