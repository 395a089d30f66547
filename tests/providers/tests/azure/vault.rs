//! Symmetric keys of a Managed HSM, federated credentials, a rotation policy, deleted names, and a log that joins with ours.

use std::sync::Arc;
use std::time::Duration;

use contract::config::Credential;
use emulator_azure::{Application, FederatedCredential, Issuer, Permission, Product};
use kms::admin::NewKey;
use kms::{CallCtx, ErrorKind, KeyRef, Kms, Options, PlainKey, RetryPolicy, connect};
use providers::azure::{KEY, TENANT, client_id};
use providers::checks::CTX;
use providers::{Azure, Bench, Caller};

const AUDIENCE: &str = "api://AzureADTokenExchange";
const SUBJECT: &str = "system:serviceaccount:shop:default";

fn once() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_symmetric_key_of_a_managed_hsm_wraps_and_is_rotated() {
    let b = Azure::of(Product::ManagedHsm).await;
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (plain, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    assert_eq!(old.blob.len(), 2 + 16 + 40, "nothing but AES key wrap makes it so short");
    b.owner().rotate(&key, &call).await.unwrap();
    let new = kms.rewrap(&key, &old, &CTX, &call).await.unwrap();
    assert_ne!(new.version, old.version);
    for wrapped in [&old, &new] {
        let opened = kms.unwrap(&key, wrapped, &CTX, &call).await.unwrap();
        assert_eq!((opened.key.expose(), &opened.used), (plain.expose(), &wrapped.version));
    }
    for at in 0..new.blob.len() {
        let mut damaged = new.clone();
        damaged.blob[at] ^= 0x10;
        let error = kms.unwrap(&key, &damaged, &CTX, &call).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CiphertextInvalid, "byte {at}: {error}");
    }
}

#[tokio::test]
async fn more_versions_than_a_page_holds_are_all_listed() {
    let b = Azure::of(Product::ManagedHsm).await;
    let (kms, owner, call) = (b.connect(Caller::Data, &once()), b.owner(), CallCtx::new());
    for _ in 0..30 {
        owner.rotate(&b.key(), &call).await.unwrap();
    }
    let versions = kms.versions(&b.key(), &call).await.unwrap();
    let names: std::collections::HashSet<&str> =
        versions.iter().map(|info| info.version.0.as_str()).collect();
    assert_eq!((versions.len(), names.len()), (31, 31));
    assert_eq!(Some(&versions[0].version), kms.describe(&b.key(), &call).await.unwrap().current.as_ref());
    owner.set_enabled(&b.key(), false, &call).await.unwrap();
    let disabled = b.emulator.log().iter().filter(|entry| entry.operation == "KeyUpdate").count();
    assert_eq!(disabled, 31, "every one of them");
}

/// A connection with this token in its file.
fn by_token(b: &Azure, token: &str) -> (Arc<dyn Kms>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, token).unwrap();
    let config = b.config(Credential::AzureFederated {
        tenant_id: TENANT.into(),
        client_id: "federated".into(),
        token_path: path.to_str().unwrap().into(),
    });
    (connect(&config, &once()).unwrap(), dir)
}

#[tokio::test]
async fn a_service_account_token_counts_only_if_everything_in_it_is_right() {
    let (cluster, stranger) =
        (Issuer::new("https://cluster.example"), Issuer::new("https://cluster.example"));
    let credential = |issuer: &str, keys: &Issuer| FederatedCredential {
        issuer: issuer.into(),
        subject: SUBJECT.into(),
        jwks: keys.jwks(),
    };
    let mut application = Application::new("federated", "unused", &Permission::SERVICE_ENCRYPTION);
    application.federated = vec![credential("https://cluster.example", &cluster)];
    let b = Azure::knowing(application).await;
    let (kms, _dir) = by_token(&b, &cluster.sign(AUDIENCE, SUBJECT, 600));
    let (plain, wrapped) = kms.generate(&b.key(), &CTX, &CallCtx::new()).await.unwrap();
    let opened = kms.unwrap(&b.key(), &wrapped, &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(opened.key.expose(), plain.expose());
    for (token, code) in [
        (stranger.sign(AUDIENCE, SUBJECT, 600), "AADSTS700027"),
        (cluster.sign_as("https://elsewhere.example", AUDIENCE, SUBJECT, 600), "AADSTS700211"),
        (cluster.sign("sts.amazonaws.com", SUBJECT, 600), "AADSTS700212"),
        (cluster.sign(AUDIENCE, "system:serviceaccount:other:default", 600), "AADSTS700213"),
        (cluster.sign(AUDIENCE, SUBJECT, -60), "AADSTS700024"),
        ("no token".into(), "AADSTS50027"),
    ] {
        let (kms, _dir) = by_token(&b, &token);
        let error = kms.describe(&b.key(), &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CredentialRejected, "{code}: {error}");
        assert_eq!(error.context.code.as_deref(), Some(code), "{error}");
    }
}

#[tokio::test]
async fn the_vaults_own_rotation_is_set_and_shown_to_who_may_see_it() {
    let b = Azure::of(Product::KeyVault).await;
    let (key, call) = (b.key(), CallCtx::new());
    let interval = Some(Duration::from_hours(24 * 90));
    b.owner().set_auto_rotation(&key, interval, &call).await.unwrap();
    let described =
        async || b.connect(Caller::Data, &once()).describe(&key, &call).await.unwrap().auto_rotation;
    assert_eq!(described().await, None, "the role of service encryption does not show it");
    let more = [Permission::SERVICE_ENCRYPTION.as_slice(), &[Permission::ReadPolicy]].concat();
    b.emulator.permit(client_id(Caller::Data), &more);
    assert_eq!(described().await, interval);
    b.owner().set_auto_rotation(&key, None, &call).await.unwrap();
    assert_eq!(described().await, None);
}

#[tokio::test]
async fn a_name_that_was_deleted_or_is_taken_makes_no_key() {
    let b = Azure::of(Product::KeyVault).await;
    let (owner, call) = (b.owner(), CallCtx::new());
    let new = |name: &str| NewKey { name: name.into(), description: None };
    let before = b.emulator.log().len();
    let taken = owner.create(&new(KEY), &call).await.unwrap_err();
    assert!(matches!(taken.kind, ErrorKind::Config(_)), "{taken}");
    owner.delete(&b.other_key(), &call).await.unwrap();
    let deleted = owner.create(&new(&b.other_key().0), &call).await.unwrap_err();
    assert!(matches!(deleted.kind, ErrorKind::KeyPendingDeletion { until: Some(_) }), "{deleted}");
    assert!(b.emulator.log()[before..].iter().all(|entry| entry.operation != "KeyCreate"));
    let made = owner.create(&new("fresh"), &call).await.unwrap();
    assert_eq!(made, KeyRef("fresh".into()));
    let kms = b.connect(Caller::Data, &once());
    let plain = PlainKey::from_bytes(&[7; 32]);
    let wrapped = kms.wrap(&made, &plain, &CTX, &call).await.unwrap();
    assert_eq!(wrapped.blob.len(), 2 + 16 + 384, "RSA with 3072 bits");
    assert_eq!(kms.unwrap(&made, &wrapped, &CTX, &call).await.unwrap().key.expose(), plain.expose());
}

#[tokio::test]
async fn the_log_of_the_vault_joins_with_ours() {
    let b = Azure::of(Product::KeyVault).await;
    let (kms, call) = (b.connect(Caller::Data, &once()), CallCtx::new());
    let (_, wrapped) = kms.generate(&b.key(), &CTX, &call).await.unwrap();
    kms.unwrap(&b.key(), &wrapped, &CTX, &call).await.unwrap();
    let id = call.correlation_id.to_string();
    let log = b.emulator.log();
    let joined: Vec<&str> =
        log.iter().filter(|entry| entry.client_request_id == id).map(|entry| entry.operation).collect();
    assert_eq!(joined, ["KeyGet", "KeyWrap", "KeyUnwrap"]);
    assert!(log.iter().all(|entry| entry.caller == client_id(Caller::Data) && entry.status == 200));
}
