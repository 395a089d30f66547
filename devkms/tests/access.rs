//! Who may do what, over http: roles, custom roles, grants on one key, trusted profiles, revoked tokens and roles.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use devkms::{Config, Fault, FaultKind, Grant, Role, Server, TrustedProfile};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use support::issuer::Issuer;
use support::{Caller, Got, INSTANCE, KEY, control, seed, start, token};

const OTHER: &str = "33333333-3333-4333-8333-333333333333";

#[tokio::test]
async fn each_role_does_what_it_may_and_is_refused_the_rest() {
    let server = start();
    let (reader, writer) = (Caller::new(&server, "reader").await, Caller::new(&server, "writer").await);
    let purger = Caller::new(&server, "purger").await;
    assert_eq!(reader.action("wrap", &json!({})).await.status, 200);
    for refused in [
        reader.action("rotate", &json!({})).await,
        reader.action("disable", &json!({})).await,
        reader.post("import_token", &json!({})).await,
        reader.get("instance/policies").await,
        reader.get(&format!("keys/{KEY}/policies")).await,
        reader.delete(&format!("keys/{KEY}")).await,
        writer.action("disable", &json!({})).await,
        writer.delete(&format!("keys/{KEY}")).await,
        writer.get(&format!("keys/{KEY}/policies")).await,
        purger.action("unwrap", &json!({"ciphertext": "AAAA"})).await,
        purger.get(&format!("keys/{KEY}/metadata")).await,
    ] {
        assert_eq!(refused.refusal(), (401, "UNAUTHORIZED_ERR"));
    }
    assert_eq!(writer.action("rotate", &json!({})).await.status, 204);
}

#[tokio::test]
async fn a_job_with_a_custom_role_rewraps_but_cannot_unwrap() {
    let server = start();
    let (reader, job) = (Caller::new(&server, "reader").await, Caller::new(&server, "job").await);
    let wrapped = reader.wrap(&[]).await;
    let body = json!({"ciphertext": wrapped["ciphertext"]});
    assert_eq!(job.metadata().await["id"], KEY);
    assert_eq!(job.action("rewrap", &body).await.status, 200);
    for action in ["unwrap", "wrap", "rotate"] {
        assert_eq!(job.action(action, &body).await.refusal(), (401, "UNAUTHORIZED_ERR"), "{action}");
    }
    assert_eq!(job.get(&format!("keys/{KEY}/versions")).await.refusal(), (401, "UNAUTHORIZED_ERR"));
}

#[tokio::test]
async fn a_credential_for_one_key_sees_no_other() {
    let server = Server::start(Config::ephemeral(seed().api_key(
        "one",
        "one",
        Grant::role(Role::Reader).on_key(OTHER),
    )))
    .unwrap();
    let only = Caller::new(&server, "one").await;
    assert_eq!(only.get(&format!("keys/{KEY}/metadata")).await.refusal(), (401, "UNAUTHORIZED_ERR"));
    assert_eq!(only.get("keys/does-not-exist/metadata").await.refusal(), (401, "UNAUTHORIZED_ERR"));
    assert_eq!(only.get("keys").await.ok()["metadata"]["collectionTotal"], 0);
    let reader = Caller::new(&server, "reader").await;
    assert_eq!(reader.get("keys/does-not-exist/metadata").await.refusal(), (404, "KEY_NOT_FOUND_ERR"));
}

#[tokio::test]
async fn a_server_that_was_dropped_frees_its_port_and_store_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { store: Some(dir.path().join("store")), ..Config::ephemeral(seed()) };
    for _ in 0..3 {
        let server = Server::start(config.clone()).unwrap();
        server.add_fault(Fault::new(&["metadata"], FaultKind::Hang));
        let reader = Caller::new(&server, "reader").await;
        tokio::spawn(reader.request(Method::GET, &format!("keys/{KEY}/metadata")).send());
        reader.wrap(&[]).await;
        config.http = Some(server.url().trim_start_matches("http://").parse().unwrap());
    }
}

#[tokio::test]
async fn a_call_without_token_or_instance_or_with_a_bad_token_is_refused() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let path = format!("{}/api/v2/keys/{KEY}/metadata", server.url());
    let client = Client::new();
    let send = async |request: reqwest::RequestBuilder| Got::of(request.send().await.unwrap()).await;
    let none = send(client.get(&path).header("Bluemix-Instance", INSTANCE)).await;
    assert_eq!(none.refusal(), (401, "UNAUTHORIZED_ERR"));
    let garbage = send(client.get(&path).header("Bluemix-Instance", INSTANCE).bearer_auth("garbage")).await;
    assert_eq!(garbage.refusal(), (400, "BEARER_SUB_EXTRACTION_ERR"));
    let nowhere = send(client.get(&path).bearer_auth(&reader.token)).await;
    assert_eq!(nowhere.refusal(), (401, "UNAUTHORIZED_ERR"));
    let other = send(client.get(&path).header("Bluemix-Instance", OTHER).bearer_auth(&reader.token)).await;
    assert_eq!(other.refusal(), (401, "UNAUTHORIZED_ERR"));
}

#[tokio::test]
async fn a_refresh_token_fetches_a_token_and_is_none_itself() {
    let server = start();
    let client = Client::new();
    let first = token(&client, &server.url(), "reader").await.ok();
    let refresh = first["refresh_token"].as_str().unwrap().to_owned();
    let as_bearer = Caller { client: client.clone(), base: server.url(), token: refresh.clone() };
    assert_eq!(
        as_bearer.get(&format!("keys/{KEY}/metadata")).await.refusal(),
        (400, "BEARER_SUB_EXTRACTION_ERR")
    );
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let answer = client.post(format!("{}/identity/token", server.url())).form(&form).send().await.unwrap();
    let second = Got::of(answer).await.ok()["access_token"].as_str().unwrap().to_owned();
    Caller { token: second, ..as_bearer }.metadata().await;
}

#[tokio::test]
async fn an_expired_or_revoked_token_is_refused_until_a_new_one_is_fetched() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let metadata = format!("keys/{KEY}/metadata");
    server.advance(3600).unwrap();
    assert_eq!(reader.get(&metadata).await.refusal(), (401, "UNAUTHORIZED_ERR"), "expired");
    let reader = Caller::new(&server, "reader").await;
    let writer = Caller::new(&server, "writer").await;
    assert_eq!(server.revoke_tokens(Some("reader")), 1);
    assert_eq!(reader.get(&metadata).await.refusal(), (401, "UNAUTHORIZED_ERR"), "revoked");
    assert_eq!(writer.get(&metadata).await.status, 200, "another identity's token");
    let reader = Caller::new(&server, "reader").await;
    assert_eq!(reader.get(&metadata).await.status, 200);
    let revoke = json!({"token": reader.token});
    assert_eq!(control(&server, Method::POST, "/_emu/tokens/revoke", Some(revoke)).await.status, 200);
    assert_eq!(reader.get(&metadata).await.status, 401);
}

#[tokio::test]
async fn a_revoked_role_refuses_a_token_that_is_still_good() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let named = json!({"identity": "reader"});
    assert_eq!(control(&server, Method::POST, "/_emu/roles/revoke", Some(named.clone())).await.status, 204);
    assert_eq!(reader.action("wrap", &json!({})).await.refusal(), (401, "UNAUTHORIZED_ERR"));
    assert_eq!(control(&server, Method::POST, "/_emu/roles/restore", Some(named)).await.status, 204);
    assert_eq!(reader.action("wrap", &json!({})).await.status, 200);
    let grants = json!([{"actions": ["kms.secrets.unwrap"]}]);
    assert_eq!(
        control(&server, Method::PUT, "/_emu/identities/reader/grants", Some(grants)).await.status,
        204
    );
    assert_eq!(reader.action("wrap", &json!({})).await.status, 401);
    let nobody = json!({"identity": "nobody"});
    assert_eq!(control(&server, Method::POST, "/_emu/roles/revoke", Some(nobody)).await.status, 404);
}

#[tokio::test]
async fn a_token_has_the_form_that_iam_clients_decode() {
    let server = start();
    let client = Client::new();
    let form = [("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "reader")];
    let answer = client.post(format!("{}/oidc/token", server.url())).form(&form).send().await.unwrap();
    let body = Got::of(answer).await.ok();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let claims = body["access_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(body["expiration"], claims["exp"]);
    assert!(claims["iam_id"].as_str().unwrap().starts_with("iam-ServiceId-"));
    let wrong = token(&client, &server.url(), "wrong").await;
    assert_eq!((wrong.status, &wrong.body["errorCode"]), (400, &json!("BXNIM0415E")));
    assert!(wrong.body["context"]["requestId"].is_string());
    control(&server, Method::PUT, "/_emu/identities/reader/enabled", Some(json!(false))).await;
    assert_eq!(token(&client, &server.url(), "reader").await.status, 400, "a disabled API key");
}

const SUBJECT: &str = "system:serviceaccount:app:default";

fn profile(keys: TrustedProfile) -> TrustedProfile {
    TrustedProfile {
        id: "Profile-44444444-4444-4444-8444-444444444444".into(),
        name: "pods".into(),
        issuer: Some("https://cluster.example".into()),
        audiences: vec!["iam".into()],
        subjects: vec!["system:serviceaccount:app:*".into()],
        ..keys
    }
}

async fn exchange(server: &Server, service_account_token: &str, profile: (&str, &str)) -> Got {
    let form = [
        ("grant_type", "urn:ibm:params:oauth:grant-type:cr-token"),
        ("cr_token", service_account_token),
        profile,
    ];
    Got::of(Client::new().post(format!("{}/identity/token", server.url())).form(&form).send().await.unwrap())
        .await
}

#[tokio::test]
async fn a_service_account_token_stands_for_its_trusted_profile_and_no_forged_one_does() {
    let issuer = Issuer::new("k1");
    let keys = TrustedProfile { jwks: Some(issuer.jwks.clone()), ..TrustedProfile::default() };
    let seed = seed().trusted_profile(profile(keys), Grant::role(Role::Reader));
    let server = Server::start(Config::ephemeral(seed)).unwrap();
    let by_name = ("profile_name", "pods");
    let by_id = ("profile_id", "Profile-44444444-4444-4444-8444-444444444444");
    let good = issuer.sign("k1", "iam", SUBJECT, 600);
    for named in [by_name, by_id] {
        let body = exchange(&server, &good, named).await.ok();
        let token = body["access_token"].as_str().unwrap().to_owned();
        let pod = Caller { client: Client::new(), base: server.url(), token };
        assert_eq!(pod.action("wrap", &json!({})).await.status, 200);
        assert_eq!(pod.action("rotate", &json!({})).await.status, 401);
    }
    let forged = Issuer::new("k1").sign("k1", "iam", SUBJECT, 600);
    for (what, token) in [
        ("another audience", issuer.sign("k1", "other", SUBJECT, 600)),
        ("another namespace", issuer.sign("k1", "iam", "system:serviceaccount:evil:default", 600)),
        ("expired", issuer.sign("k1", "iam", SUBJECT, -60)),
        ("unknown key", issuer.sign("k2", "iam", SUBJECT, 600)),
        ("forged", forged),
        ("no token", "garbage".to_owned()),
    ] {
        let refused = exchange(&server, &token, by_name).await;
        assert_eq!(refused.status, 400, "{what}");
        assert!(refused.body["errorCode"].is_string(), "{what}");
    }
    assert_eq!(exchange(&server, &good, ("profile_name", "nobody")).await.status, 400);
}

#[tokio::test]
async fn an_issuer_s_new_keys_are_read_from_their_file_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let (first, second) = (Issuer::new("k1"), Issuer::new("k2"));
    std::fs::write(&path, first.jwks.to_string()).unwrap();
    let keys = TrustedProfile { jwks_file: Some(path.clone()), ..TrustedProfile::default() };
    let seed = seed().trusted_profile(profile(keys), Grant::role(Role::Reader));
    let server = Server::start(Config::ephemeral(seed)).unwrap();
    let token = second.sign("k2", "iam", SUBJECT, 600);
    assert_eq!(exchange(&server, &token, ("profile_name", "pods")).await.status, 400);
    std::fs::write(&path, second.jwks.to_string()).unwrap();
    assert_eq!(exchange(&server, &token, ("profile_name", "pods")).await.status, 200);
}
