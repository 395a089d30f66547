//! A sealed server, keys that nobody made, keys that are not derived, and a log that joins with ours.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms::{CallCtx, ContextScheme, KeyRef, Op, Options, PlainKey, RetryPolicy};
use providers::checks::CTX;
use providers::openbao::{KEY, OpenBao, Server};
use providers::{Bench, Caller};
use serde_json::json;

fn once() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_sealed_server_is_an_outage_that_passes() {
    let Some(server) = Server::start().await else { return };
    let b = OpenBao::on(server.into()).await;
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.server.seal().await;
    for kms in [&kms, &b.connect(Caller::Data, &once())] {
        let error = kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap_err();
        assert_eq!((error.reason(), error.context.http_status), ("KmsServerError", Some(503)), "{error}");
        assert!(error.is_outage() && !error.is_refusal());
    }
    b.server.unseal().await;
    assert_eq!(kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap().key.expose(), plain.expose());
}

#[tokio::test]
async fn a_policy_that_may_create_still_makes_no_key() {
    let Some(b) = OpenBao::start(false).await else { return };
    b.set_policy("data", r#"path "transit/*" { capabilities = ["create", "read", "update"] }"#).await;
    let (kms, before) = (b.connect(Caller::Data, &once()), b.count_keys().await);
    let missing = b.missing_key();
    let error = kms.wrap(&missing, &PlainKey::from_bytes(&[1; 32]), &CTX, &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.reason(), "KeyNotFound", "{error}");
    assert_eq!(b.count_keys().await, before);
    // So that the test could fail: the engine itself makes it.
    let body = json!({"plaintext": "AAAA", "context": "AAAA"});
    b.write(&format!("transit/encrypt/{}", missing.0), body).await;
    assert_eq!(b.count_keys().await, before + 1);
}

#[tokio::test]
async fn a_key_that_is_not_derived_wraps_without_a_context_and_says_so() {
    let Some(b) = OpenBao::start(false).await else { return };
    b.write("transit/keys/flat", json!({})).await;
    b.set_policy("data", r#"path "transit/*" { capabilities = ["read", "update"] }"#).await;
    let (kms, key, call) = (b.connect(Caller::Data, &once()), KeyRef("flat".into()), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    assert_eq!(wrapped.scheme, ContextScheme::None);
    assert_eq!(kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap().key.expose(), plain.expose());
    b.write("transit/keys/flat/rotate", json!({})).await;
    let moved = kms.rewrap(&key, &wrapped, &CTX, &call).await.unwrap();
    assert_eq!((moved.scheme, moved.version.unwrap().0.as_str()), (ContextScheme::None, "2"));
}

#[tokio::test]
async fn the_log_of_the_server_joins_with_ours() {
    let Some(b) = OpenBao::start(false).await else { return };
    let (kms, call) = (b.connect(Caller::Data, &once()), CallCtx::new());
    kms.generate(&b.key(), &CTX, &call).await.unwrap();
    let id = call.correlation_id.to_string();
    let path = format!("transit/datakey/plaintext/{KEY}");
    let log = b.server.audit_log();
    let joined = log.lines().filter(|line| line.contains(&id) && line.contains(&path)).count();
    assert_eq!(joined, 2, "its request and its answer");
}

#[tokio::test]
async fn the_operators_policy_rotates_and_does_nothing_else() {
    let Some(b) = OpenBao::start(false).await else { return };
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/openbao/admin.hcl"));
    b.set_policy("owner", &text.unwrap()).await;
    let (owner, key, call) = (b.owner(), b.key(), CallCtx::new());
    owner.rotate(&key, &call).await.unwrap();
    owner.set_auto_rotation(&key, Some(Duration::from_hours(720)), &call).await.unwrap();
    let data = b.connect(Caller::Data, &once());
    let info = data.describe(&key, &call).await.unwrap();
    assert_eq!(
        (info.current.unwrap().0.as_str(), info.auto_rotation),
        ("2", Some(Duration::from_hours(720)))
    );
    for refused in [owner.delete(&key, &call).await, owner.set_enabled(&key, false, &call).await] {
        assert_eq!(refused.unwrap_err().reason(), "KeyAccessDenied");
    }
    owner.set_auto_rotation(&key, None, &call).await.unwrap();
    assert_eq!(data.describe(&key, &call).await.unwrap().auto_rotation, None);
    b.reset_requests();
    data.describe(&key, &call).await.unwrap();
    assert_eq!(b.requests(Op::Describe), 1);
}

#[tokio::test]
async fn a_spelling_that_only_the_server_takes_for_the_same_blob_is_refused() {
    let Some(b) = OpenBao::start(false).await else { return };
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    let text = String::from_utf8(wrapped.blob.clone()).unwrap();
    let sealed = text.strip_prefix("vault:v1:").unwrap();
    for other in [format!("vault:v0:{sealed}"), format!("vault:v1:{}\n{}", &sealed[..8], &sealed[8..])] {
        let body = json!({"ciphertext": other, "context": STANDARD.encode(CTX)});
        b.write(&format!("transit/decrypt/{KEY}"), body).await;
        let blob = kms::Wrapped { blob: other.clone().into_bytes(), ..wrapped.clone() };
        let error = kms.unwrap(&key, &blob, &CTX, &call).await.unwrap_err();
        assert_eq!(error.reason(), "CiphertextInvalid", "{other}: {error}");
    }
}
