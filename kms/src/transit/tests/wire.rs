//! Golden requests and answers of every operation, and answers that no real server gives.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::admin::{KmsAdmin, NewKey};
use crate::call::CallCtx;
use crate::config::{ConfigError, ProviderConfig};
use crate::connect::{connect_admin, connect_with_secret};
use crate::error::ErrorKind;
use crate::http::fake::{Fake, JSON, Request, Say, bare, ok, status};
use crate::key::{ContextScheme, KeyRef, KeyState, KeyVersion, Origin, PlainKey, Wrapped};
use crate::service::Kms;
use contract::config::{Credential, Provider, Transit};

const PLAIN: [u8; 32] = *b"\xff\xfe\xfdthirty-two bytes of plaintext";
const PLAIN_TEXT: &str = "//79dGhpcnR5LXR3byBieXRlcyBvZiBwbGFpbnRleHQ=";
const CTX: [u8; 32] = [0xfb; 32];
const CONTEXT: &str = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
const BLOB: &str = "vault:v1:QUJD";
const KEY_BODY: &str = r#"{"data":{"name":"k","type":"aes256-gcm96","derived":true,"latest_version":2,
    "keys":{"1":1700000000,"2":1700086400},"auto_rotate_period":2592000,"imported_key":true}}"#;

fn root_key(fake: &Fake) -> Transit {
    Transit {
        endpoint: format!("http://{}", fake.at),
        namespace: Some("team/a".into()),
        mount: "kv/transit".into(),
        key: "k".into(),
    }
}

fn config(root_key: Transit) -> ProviderConfig {
    let credential = Credential::AppRole {
        mount: "approle".into(),
        role_id: "role-1".into(),
        secret_id_path: "/not/read".into(),
    };
    ProviderConfig::new(Provider::Transit(root_key), credential).at_loopback()
}

fn secret() -> SecretString {
    SecretString::from("secret-id-that-nobody-may-see")
}

fn kms(fake: &Fake) -> Arc<dyn Kms> {
    connect_with_secret(&config(root_key(fake)), secret(), &bare()).unwrap()
}

fn admin(fake: &Fake) -> Arc<dyn KmsAdmin> {
    connect_admin(&config(root_key(fake)), Some(secret()), &bare()).unwrap()
}

fn is_login(request: &Request) -> bool {
    request.line == "POST /v1/auth/approle/login"
}

/// Answers logins and questions for the key; everything else by `say`.
async fn fake(say: impl Fn(&Request) -> Say + Send + 'static) -> Fake {
    Fake::raw(move |request| {
        if is_login(request) {
            return ok(r#"{"auth":{"client_token":"s.token","lease_duration":3600,"renewable":true}}"#);
        }
        if request.line == "GET /v1/kv/transit/keys/k" { ok(KEY_BODY) } else { say(request) }
    })
    .await
}

fn last(fake: &Fake) -> Request {
    fake.requests().last().unwrap().clone()
}

fn wrapped(blob: &str) -> Wrapped {
    Wrapped {
        blob: blob.as_bytes().to_vec(),
        version: Some(KeyVersion("1".into())),
        scheme: ContextScheme::Derived,
    }
}

fn key() -> KeyRef {
    KeyRef("k".into())
}

#[tokio::test]
async fn each_operation_sends_what_the_vendor_documents() {
    let sealed =
        format!(r#"{{"data":{{"ciphertext":"vault:v2:REVG","key_version":2,"plaintext":"{PLAIN_TEXT}"}}}}"#);
    let fake = fake(move |_| ok(sealed.clone())).await;
    let (kms, call) = (kms(&fake), CallCtx::new());

    let made = kms.wrap(&key(), &PlainKey::from_bytes(&PLAIN), &CTX, &call).await.unwrap();
    let request = last(&fake);
    assert_eq!(request.line, "POST /v1/kv/transit/encrypt/k");
    assert_eq!(request.body, format!(r#"{{"plaintext":"{PLAIN_TEXT}","context":"{CONTEXT}"}}"#));
    for (name, value) in [
        ("x-vault-token", "s.token"),
        ("x-vault-namespace", "team/a"),
        ("x-vault-request", "true"),
        ("x-correlation-id", call.correlation_id.to_string().as_str()),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(
        (made.blob.as_slice(), made.version),
        (b"vault:v2:REVG".as_slice(), Some(KeyVersion("2".into())))
    );

    let (plain, _) = kms.generate(&key(), &CTX, &call).await.unwrap();
    assert_eq!(plain.expose(), &PLAIN);
    assert_eq!(last(&fake).line, "POST /v1/kv/transit/datakey/plaintext/k");
    assert_eq!(last(&fake).body, format!(r#"{{"context":"{CONTEXT}"}}"#));

    let opened = kms.unwrap(&key(), &wrapped(BLOB), &CTX, &call).await.unwrap();
    assert_eq!((opened.key.expose(), opened.used), (&PLAIN, Some(KeyVersion("1".into()))));
    let body = format!(r#"{{"ciphertext":"{BLOB}","context":"{CONTEXT}"}}"#);
    assert_eq!((last(&fake).line.as_str(), &last(&fake).body), ("POST /v1/kv/transit/decrypt/k", &body));

    kms.rewrap(&key(), &wrapped(BLOB), &CTX, &call).await.unwrap();
    assert_eq!((last(&fake).line.as_str(), &last(&fake).body), ("POST /v1/kv/transit/rewrap/k", &body));

    let logins: Vec<_> = fake.requests().into_iter().filter(is_login).collect();
    assert_eq!(logins.len(), 1);
    assert_eq!(logins[0].body, r#"{"role_id":"role-1","secret_id":"secret-id-that-nobody-may-see"}"#);
    assert_eq!(logins[0].header("x-vault-namespace"), Some("team/a"));
    assert_eq!(logins[0].header("x-vault-token"), None);
}

#[tokio::test]
async fn the_owners_operations_send_what_the_vendor_documents() {
    let fake = fake(|request| match request.line.as_str() {
        "GET /v1/kv/transit/keys/new" => status(404, JSON, r#"{"errors":[]}"#),
        _ => status(204, "", ""),
    })
    .await;
    let (owner, call) = (admin(&fake), CallCtx::new());
    let sent = |line: &str, body: &str| {
        assert_eq!((last(&fake).line.as_str(), last(&fake).body.as_str()), (line, body));
    };
    let new = NewKey { name: "new".into(), description: None };
    assert_eq!(owner.create(&new, &call).await.unwrap(), KeyRef("new".into()));
    sent("POST /v1/kv/transit/keys/new", r#"{"type":"aes256-gcm96","derived":true}"#);
    owner.rotate(&key(), &call).await.unwrap();
    sent("POST /v1/kv/transit/keys/k/rotate", "");
    owner.set_enabled(&key(), false, &call).await.unwrap();
    sent("DELETE /v1/kv/transit/keys/k/soft-delete", "");
    owner.set_enabled(&key(), true, &call).await.unwrap();
    sent("POST /v1/kv/transit/keys/k/soft-delete-restore", "");
    owner.set_auto_rotation(&key(), Some(Duration::from_hours(720)), &call).await.unwrap();
    sent("POST /v1/kv/transit/keys/k/config", r#"{"auto_rotate_period":"2592000s"}"#);
    owner.set_auto_rotation(&key(), None, &call).await.unwrap();
    sent("POST /v1/kv/transit/keys/k/config", r#"{"auto_rotate_period":"0s"}"#);
    owner.delete(&key(), &call).await.unwrap();
    sent("DELETE /v1/kv/transit/keys/k", "");

    let there = NewKey { name: "k".into(), description: None };
    let error = owner.create(&there, &call).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Config(_)), "a key that is there is not made: {error}");
    assert_eq!(owner.restore(&key(), &call).await.unwrap_err().kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn metadata_are_read_as_they_are_meant() {
    let fake = fake(|_| unreachable!()).await;
    let info = kms(&fake).describe(&key(), &CallCtx::new()).await.unwrap();
    assert_eq!((info.state, info.origin), (KeyState::Enabled, Origin::Imported));
    assert_eq!(info.current, Some(KeyVersion("2".into())));
    assert_eq!(info.auto_rotation, Some(Duration::from_hours(720)));
    let seconds = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(info.rotated_at.map(seconds), Some(1_700_086_400));
    let versions = kms(&fake).versions(&key(), &CallCtx::new()).await.unwrap();
    let said: Vec<_> =
        versions.iter().map(|one| (one.version.0.as_str(), one.created_at.map(seconds))).collect();
    assert_eq!(said, [("2", Some(1_700_086_400)), ("1", Some(1_700_000_000))]);
}

#[tokio::test]
async fn a_key_that_cannot_wrap_is_said_so_and_one_that_is_not_derived_binds_no_context() {
    let kind = |kind: &'static str| {
        Fake::raw(move |request| {
            if is_login(request) {
                return ok(r#"{"auth":{"client_token":"s.t","lease_duration":3600,"renewable":false}}"#);
            }
            if request.line.contains("/keys/") {
                let body = format!(
                    r#"{{"data":{{"name":"k","type":"{kind}","latest_version":1,"keys":{{"1":{{"name":"rsa"}}}}}}}}"#
                );
                return ok(body);
            }
            ok(r#"{"data":{"ciphertext":"vault:v1:REVG"}}"#)
        })
    };
    let rsa = kind("rsa-4096").await;
    let error = kms(&rsa).describe(&key(), &CallCtx::new()).await.unwrap_err();
    assert!(error.to_string().contains("rsa-4096"), "{error}");
    assert!(!error.is_outage() && !error.is_refusal());

    let plain = kind("aes256-gcm96").await;
    let made = kms(&plain).wrap(&key(), &PlainKey::from_bytes(&PLAIN), &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(made.scheme, ContextScheme::None);
    assert_eq!(last(&plain).body, format!(r#"{{"plaintext":"{PLAIN_TEXT}"}}"#));
}

#[tokio::test]
async fn a_blob_has_one_spelling() {
    let fake = fake(|_| unreachable!()).await;
    let kms = kms(&fake);
    for blob in
        ["vault:v0:QUJD", "vault:v01:QUJD", "vault:v+1:QUJD", "vault:v1:QU\nJD", "vault:v1:", "v1:QUJD", ""]
    {
        let error = kms.unwrap(&key(), &wrapped(blob), &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CiphertextInvalid, "{blob:?}");
        let error = kms.rewrap(&key(), &wrapped(blob), &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CiphertextInvalid, "{blob:?}");
    }
    assert!(fake.requests().is_empty(), "the server reads v0 as v1: it is not asked");
}

#[tokio::test]
async fn an_answer_that_says_half_of_it_or_two_things_is_unusable() {
    for body in [
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{}}"#,
        r#"{"errors":["batch item failed"]}"#,
        r#"{"data":{"ciphertext":"QUJD"}}"#,
        r#"{"data":{"ciphertext":"vault:v0:QUJD"}}"#,
        r#"{"data":{"ciphertext":"vault:v2:QUJD","key_version":1}}"#,
    ] {
        let fake = fake(move |_| ok(body)).await;
        let error = kms(&fake).rewrap(&key(), &wrapped(BLOB), &CTX, &CallCtx::new()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{body}: {error}");
        assert!(error.is_outage() && !error.is_refusal());
    }
}

#[tokio::test]
async fn a_name_that_could_leave_its_place_is_a_wrong_configuration() {
    let fake = fake(|_| unreachable!()).await;
    let right = root_key(&fake);
    for wrong in ["", "../k", "a b", "k?x", "k#", ".", "a//b", "/a", "a/"] {
        let named = Transit { key: wrong.into(), ..right.clone() };
        let mounted = Transit { mount: wrong.into(), ..right.clone() };
        let spaced = Transit { namespace: Some(wrong.into()), ..right.clone() };
        for (field, wrong_one) in [("key", named), ("mount", mounted), ("namespace", spaced)] {
            let made = connect_with_secret(&config(wrong_one), secret(), &bare());
            assert_eq!(made.err(), Some(ConfigError::Field { field }), "{wrong:?}");
        }
    }
}
