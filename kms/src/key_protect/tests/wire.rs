//! Golden requests and answers of every operation.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::fake::*;
use crate::admin::{KmsAdmin, NewKey};
use crate::call::CallCtx;
use crate::config::ProviderConfig;
use crate::connect::{connect_admin, connect_with_secret};
use crate::key::{ContextScheme, KeyRef, KeyState, KeyVersion, Origin, PlainKey, VersionInfo, Wrapped};
use crate::service::Kms;
use contract::config::{Credential, KeyProtect, Provider};

const PLAIN: [u8; 32] = *b"\xff\xfe\xfdthirty-two bytes of plaintext";
const CTX: [u8; 32] = [0xfb; 32];
/// base64url of the context, without padding.
const AAD: &str = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";

fn kms(fake: &Fake) -> Arc<dyn Kms> {
    connect_with_secret(&fake.config(), SecretString::from(API_KEY), &bare()).unwrap()
}

fn admin(fake: &Fake) -> Arc<dyn KmsAdmin> {
    connect_admin(&fake.config(), Some(SecretString::from(API_KEY)), &bare()).unwrap()
}

fn only_call(fake: &Fake) -> Request {
    let calls = fake.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls[0].clone()
}

#[tokio::test]
async fn every_request_carries_token_instance_correlation_id_and_ring() {
    let fake = Fake::start(|_| ok(r#"{"ciphertext":"QUJD","keyVersion":{"id":"v1"}}"#)).await;
    let config = config_of(KeyProtect { key_ring: Some("ring-1".into()), ..fake.root_key() });
    let kms = connect_with_secret(&config, SecretString::from(API_KEY), &bare()).unwrap();
    let call = CallCtx::new();
    kms.wrap(&key(), &PlainKey::from_bytes(&PLAIN), &CTX, &call).await.unwrap();
    let request = only_call(&fake);
    assert_eq!(request.header("authorization"), Some("Bearer token-0"));
    assert_eq!(request.header("bluemix-instance"), Some(INSTANCE));
    assert_eq!(request.header("correlation-id"), Some(call.correlation_id.to_string().as_str()));
    assert_eq!(request.header("x-kms-key-ring"), Some("ring-1"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("content-type"), Some("application/vnd.ibm.kms.key_action_wrap+json"));
}

#[tokio::test]
async fn wrap_sends_the_key_in_base64_exactly_once() {
    let fake = Fake::start(|_| ok(r#"{"ciphertext":"QUJD","keyVersion":{"id":"v1"}}"#)).await;
    let plain = PlainKey::from_bytes(&PLAIN);
    let wrapped = kms(&fake).wrap(&key(), &plain, &CTX, &CallCtx::new()).await.unwrap();
    let request = only_call(&fake);
    assert_eq!(request.line, format!("POST /api/v2/keys/{KEY}/actions/wrap"));
    assert_eq!(
        request.body,
        format!(r#"{{"plaintext":"//79dGhpcnR5LXR3byBieXRlcyBvZiBwbGFpbnRleHQ=","aad":["{AAD}"]}}"#)
    );
    assert_eq!(STANDARD.decode("//79dGhpcnR5LXR3byBieXRlcyBvZiBwbGFpbnRleHQ=").unwrap(), PLAIN);
    assert_eq!(request.header("x-kms-key-ring"), None);
    let expected = Wrapped {
        blob: b"QUJD".to_vec(),
        version: Some(KeyVersion("v1".into())),
        scheme: ContextScheme::Aad,
    };
    assert_eq!(wrapped, expected);
}

#[tokio::test]
async fn generate_lets_the_kms_make_the_key() {
    let body = format!(
        r#"{{"plaintext":"{}","ciphertext":"QUJD","keyVersion":{{"id":"v1"}}}}"#,
        STANDARD.encode(PLAIN).replace('/', "\\/")
    );
    let fake = Fake::start(move |_| ok(body.clone())).await;
    let (plain, wrapped) = kms(&fake).generate(&key(), &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(plain.expose(), &PLAIN);
    assert_eq!(wrapped.blob, b"QUJD");
    let request = only_call(&fake);
    assert_eq!(request.line, format!("POST /api/v2/keys/{KEY}/actions/wrap"));
    assert_eq!(request.body, format!(r#"{{"aad":["{AAD}"]}}"#));
}

#[tokio::test]
async fn unwrap_sends_the_ciphertext_as_it_came_and_takes_a_rewrapped_one() {
    let plain = STANDARD.encode(PLAIN);
    let body = format!(r#"{{"plaintext":"{plain}","keyVersion":{{"id":"v1"}}}}"#);
    let fake = Fake::start(move |_| ok(body.clone())).await;
    let kms = kms(&fake);
    let unwrapped = kms.unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(unwrapped.key.expose(), &PLAIN);
    assert_eq!((unwrapped.used, unwrapped.rewrapped), (Some(KeyVersion("v1".into())), None));
    let request = only_call(&fake);
    assert_eq!(request.line, format!("POST /api/v2/keys/{KEY}/actions/unwrap"));
    assert_eq!(request.body, format!(r#"{{"ciphertext":"eyJjaXBoZXJ0ZXh0IjoiLi4uIn0=","aad":["{AAD}"]}}"#));
    assert_eq!(request.header("content-type"), Some("application/vnd.ibm.kms.key_action_unwrap+json"));

    let body = format!(
        r#"{{"plaintext":"{plain}","ciphertext":"TkVX","keyVersion":{{"id":"v1"}},"rewrappedKeyVersion":{{"id":"v2"}}}}"#
    );
    fake.rescript(move |_| ok(body.clone()));
    let unwrapped = kms.unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap();
    let rewrapped = unwrapped.rewrapped.unwrap();
    assert_eq!(unwrapped.used, Some(KeyVersion("v1".into())));
    assert_eq!(
        (rewrapped.blob.as_slice(), rewrapped.version),
        (b"TkVX".as_slice(), Some(KeyVersion("v2".into())))
    );
}

#[tokio::test]
async fn rewrap_gives_the_version_that_it_wrapped_with() {
    let body = r#"{"ciphertext":"TkVX","keyVersion":{"id":"v1"},"rewrappedKeyVersion":{"id":"v2"}}"#;
    let fake = Fake::start(move |_| ok(body)).await;
    let rewrapped = kms(&fake).rewrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(
        (rewrapped.blob.as_slice(), rewrapped.version),
        (b"TkVX".as_slice(), Some(KeyVersion("v2".into())))
    );
    let request = only_call(&fake);
    assert_eq!(request.line, format!("POST /api/v2/keys/{KEY}/actions/rewrap"));
    assert_eq!(request.body, format!(r#"{{"ciphertext":"eyJjaXBoZXJ0ZXh0IjoiLi4uIn0=","aad":["{AAD}"]}}"#));
    assert_eq!(request.header("content-type"), Some("application/vnd.ibm.kms.key_action_rewrap+json"));
}

#[tokio::test]
async fn describe_reads_metadata_and_never_the_key_itself() {
    let body = format!(
        r#"{{"metadata":{{"collectionType":"application/vnd.ibm.kms.key+json","collectionTotal":1}},"resources":[{{
        "type":"application/vnd.ibm.kms.key+json","id":"{KEY}","name":"n","state":1,"extractable":false,"imported":true,
        "keyVersion":{{"id":"v2","creationDate":"2026-01-02T03:04:05Z"}},"lastRotateDate":"2026-01-02T03:04:05Z",
        "expirationDate":"2030-01-01T00:00:00Z","rotation":{{"enabled":true,"interval_month":3}},"unknownField":[1]}}]}}"#
    );
    let fake = Fake::start(move |_| ok(body.clone())).await;
    let info = kms(&fake).describe(&KeyRef("an-alias".into()), &CallCtx::new()).await.unwrap();
    assert_eq!(info.id, key());
    assert_eq!(
        (info.state, info.current, info.origin),
        (KeyState::Enabled, Some(KeyVersion("v2".into())), Origin::Imported)
    );
    let since_epoch = info.rotated_at.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since_epoch, Duration::from_secs(1_767_323_045));
    assert!(info.expires_at.is_some());
    assert_eq!(info.auto_rotation, Some(Duration::from_hours(90 * 24)));
    assert_eq!(only_call(&fake).line, "GET /api/v2/keys/an-alias/metadata");
}

#[tokio::test]
async fn versions_come_page_by_page() {
    let fake = Fake::start(|request| {
        let all: Vec<String> =
            (0..250).map(|n| format!(r#"{{"id":"v{n}","creationDate":"2026-01-02T03:04:05Z"}}"#)).collect();
        let page = if request.line.contains("offset=0&") { &all[..200] } else { &all[200..] };
        ok(format!(r#"{{"metadata":{{"collectionTotal":1}},"resources":[{}]}}"#, page.join(",")))
    })
    .await;
    let versions = kms(&fake).versions(&key(), &CallCtx::new()).await.unwrap();
    assert_eq!(versions.len(), 250);
    assert!(matches!(&versions[249], VersionInfo { version, created_at: Some(_) } if version.0 == "v249"));
    let lines: Vec<String> = fake.calls().into_iter().map(|request| request.line).collect();
    let line =
        |offset| format!("GET /api/v2/keys/{KEY}/versions?limit=200&offset={offset}&allKeyStates=true");
    assert_eq!(lines, [line(0), line(200)]);
}

#[tokio::test]
async fn versions_without_end_are_not_followed() {
    let page: Vec<String> = (0..200).map(|n| format!(r#"{{"id":"v{n}"}}"#)).collect();
    let body = format!(r#"{{"resources":[{}]}}"#, page.join(","));
    let fake = Fake::start(move |_| ok(body.clone())).await;
    let error = kms(&fake).versions(&key(), &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.reason(), "KmsAnswerUnusable");
}

#[tokio::test]
async fn a_standard_key_is_not_taken_for_a_root_key() {
    let body = format!(r#"{{"resources":[{{"id":"{KEY}","state":1,"extractable":true}}]}}"#);
    let fake = Fake::start(move |_| ok(body.clone())).await;
    let error = kms(&fake).describe(&key(), &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.reason(), "KmsConfigInvalid");
    assert!(error.to_string().contains("not a root key"), "{error}");
}

#[tokio::test]
async fn what_the_owner_does_is_sent_as_the_api_wants_it() {
    let body = format!(r#"{{"resources":[{{"id":"{KEY}","state":1}}]}}"#);
    let fake = Fake::start(move |request| {
        if request.line == "POST /api/v2/keys" {
            status(201, JSON, body.clone())
        } else {
            status(204, "", "")
        }
    })
    .await;
    let (admin, call) = (admin(&fake), CallCtx::new());
    let new = NewKey { name: "root".into(), description: Some("of the tests".into()) };
    assert_eq!(admin.create(&new, &call).await.unwrap(), key());
    admin.rotate(&key(), &call).await.unwrap();
    admin.set_enabled(&key(), false, &call).await.unwrap();
    admin.set_enabled(&key(), true, &call).await.unwrap();
    admin.delete(&key(), &call).await.unwrap();
    admin.restore(&key(), &call).await.unwrap();
    admin.set_auto_rotation(&key(), Some(Duration::from_hours(31 * 24)), &call).await.unwrap();
    admin.set_auto_rotation(&key(), None, &call).await.unwrap();

    let sent: Vec<(String, String)> =
        fake.calls().into_iter().map(|request| (request.line, request.body)).collect();
    let path = format!("/api/v2/keys/{KEY}");
    let policy = |rotation: &str| {
        format!(
            r#"{{"metadata":{{"collectionType":"application/vnd.ibm.kms.policy+json","collectionTotal":1}},"resources":[{{"type":"application/vnd.ibm.kms.policy+json","rotation":{rotation}}}]}}"#
        )
    };
    let created = r#"{"metadata":{"collectionType":"application/vnd.ibm.kms.key+json","collectionTotal":1},"resources":[{"type":"application/vnd.ibm.kms.key+json","name":"root","description":"of the tests","extractable":false}]}"#;
    let expected = [
        ("POST /api/v2/keys".to_owned(), created.to_owned()),
        (format!("POST {path}/actions/rotate"), "{}".into()),
        (format!("POST {path}/actions/disable"), String::new()),
        (format!("POST {path}/actions/enable"), String::new()),
        (format!("DELETE {path}"), String::new()),
        (format!("POST {path}/restore"), String::new()),
        (format!("PUT {path}/policies?policy=rotation"), policy(r#"{"enabled":true,"interval_month":2}"#)),
        (format!("PUT {path}/policies?policy=rotation"), policy(r#"{"enabled":false}"#)),
    ];
    for (sent, expected) in sent.iter().zip(&expected) {
        assert_eq!(sent, expected);
    }
    assert_eq!(sent.len(), expected.len());
}

#[tokio::test]
async fn a_blob_that_key_protect_never_made_is_refused_without_a_call() {
    let fake = Fake::start(|_| ok("{}")).await;
    let blobs = [
        Wrapped { blob: vec![0xff, 0xfe], ..wrapped() },
        Wrapped { blob: b"a\"b".to_vec(), ..wrapped() },
        Wrapped { blob: Vec::new(), ..wrapped() },
        Wrapped { scheme: ContextScheme::None, ..wrapped() },
    ];
    let kms = kms(&fake);
    for blob in blobs {
        let error = kms.unwrap(&key(), &blob, &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.reason(), "CiphertextInvalid");
        assert_eq!(
            kms.rewrap(&key(), &blob, &CTX, &CallCtx::new()).await.unwrap_err().reason(),
            "CiphertextInvalid"
        );
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn ids_that_could_change_the_path_or_a_header_are_refused() {
    let root_key = |root_key: &str, instance: &str| KeyProtect {
        endpoint: "https://kms.example".into(),
        iam_endpoint: "https://iam.example".into(),
        instance: instance.into(),
        root_key: root_key.into(),
        key_ring: None,
    };
    let connects = |root_key: KeyProtect| {
        let credential = Credential::ApiKeyFile { path: "/k".into() };
        let config = ProviderConfig::new(Provider::KeyProtect(root_key), credential);
        crate::connect(&config, &bare()).is_ok()
    };
    assert!(connects(root_key(KEY, INSTANCE)));
    for (key, instance) in
        [("", INSTANCE), ("a/b", INSTANCE), ("..", INSTANCE), (KEY, "a\r\nX: y"), (KEY, "")]
    {
        assert!(!connects(root_key(key, instance)), "{key:?} {instance:?}");
    }
    let http = KeyProtect { iam_endpoint: "http://127.0.0.1:1".into(), ..root_key(KEY, INSTANCE) };
    assert!(!connects(http), "http needs the development flag");
}
