//! What the example policies allow, what the service's own log holds, and rotations by the service itself.

use std::time::Duration;

use emulator_aws::Policy;
use kms::{CallCtx, KeyRef, KeyState, PlainKey};
use providers::aws::example;
use providers::checks::CTX;
use providers::{Aws, Bench, Caller};

use crate::identity::once;

#[tokio::test]
async fn the_operators_policy_rotates_and_does_nothing_else() {
    let b = Aws::start(false).await.unwrap();
    b.server.world().set_policies("owner", &[Policy::parse(&example("admin")).unwrap()]);
    let (owner, key, call) = (b.owner(), b.key(), CallCtx::new());
    owner.rotate(&key, &call).await.unwrap();
    let interval = Some(Duration::from_hours(24 * 180));
    owner.set_auto_rotation(&key, interval, &call).await.unwrap();
    let data = b.connect(Caller::Data, &once());
    let info = data.describe(&key, &call).await.unwrap();
    assert_eq!(info.auto_rotation, interval);
    assert!(info.rotated_at.is_some());
    assert_eq!(data.versions(&key, &call).await.unwrap().len(), 2);
    for refused in [
        owner.delete(&key, &call).await,
        owner.set_enabled(&key, false, &call).await,
        owner.rotate(&b.other_key(), &call).await,
    ] {
        assert_eq!(refused.unwrap_err().reason(), "KeyAccessDenied");
    }
    owner.set_auto_rotation(&key, None, &call).await.unwrap();
    assert_eq!(data.describe(&key, &call).await.unwrap().auto_rotation, None);
}

#[tokio::test]
async fn what_aws_rotates_by_itself_is_seen() {
    let b = Aws::start(false).await.unwrap();
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (plain, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().set_auto_rotation(&key, Some(Duration::from_hours(24 * 90)), &call).await.unwrap();
    let before = kms.describe(&key, &call).await.unwrap();
    b.advance(Duration::from_hours(24 * 25)).await;
    assert_eq!(kms.describe(&key, &call).await.unwrap().current, before.current);
    b.advance(Duration::from_hours(24 * 70)).await;
    // The service account token has ended by now; access keys do not.
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("credentials");
    std::fs::write(&path, b.secret(Caller::Data)).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &once());
    let after = kms.describe(&key, &call).await.unwrap();
    assert_ne!(after.current, before.current);
    assert!(after.rotated_at > before.rotated_at);
    let opened = kms.unwrap(&key, &old, &CTX, &call).await.unwrap();
    assert_eq!((opened.key.expose(), opened.used), (plain.expose(), before.current));
    assert_eq!(kms.rewrap(&key, &old, &CTX, &call).await.unwrap().version, after.current);
}

#[tokio::test]
async fn the_log_of_the_service_joins_with_ours() {
    let b = Aws::start(false).await.unwrap();
    let (kms, call) = (b.connect(Caller::Data, &once()), CallCtx::new());
    let (plain, wrapped) = kms.generate(&b.key(), &CTX, &call).await.unwrap();
    kms.wrap(&b.key(), &plain, &CTX, &call).await.unwrap();
    kms.unwrap(&b.key(), &wrapped, &[0; 32], &call).await.unwrap_err();
    let id = call.correlation_id.to_string();
    let world = b.server.world();
    let joined = world.trail.iter().filter(|event| event.user_agent.ends_with(&format!(" correlation/{id}")));
    let joined: Vec<(&str, Option<&str>)> =
        joined.map(|event| (event.name.as_str(), event.error.as_deref())).collect();
    assert_eq!(
        joined,
        [
            ("GenerateDataKey", None),
            ("Encrypt", None),
            ("ReEncrypt", None),
            ("Decrypt", Some("InvalidCiphertextException")),
        ]
    );
    let context = world.trail[0].encryption_context.as_ref().unwrap();
    assert_eq!(context["cofferdam-context"].as_str().map(str::len), Some(43), "a hash, and nothing else");
    assert_eq!(context.as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deletion_comes_true_after_thirty_days() {
    let b = Aws::start(false).await.unwrap();
    let (owner, key, call) = (b.owner(), b.key(), CallCtx::new());
    owner.delete(&key, &call).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials");
    std::fs::write(&path, b.secret(Caller::Data)).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &once());
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::PendingDeletion);
    let error = kms.generate(&key, &CTX, &call).await.unwrap_err();
    assert!(matches!(error.kind, kms::ErrorKind::KeyPendingDeletion { until: Some(_) }), "{error}");
    b.advance(Duration::from_hours(24 * 30)).await;
    assert_eq!(kms.describe(&key, &call).await.unwrap_err().reason(), "KeyNotFound");
}

#[tokio::test]
async fn an_alias_serves_wherever_aws_takes_one_and_is_resolved_elsewhere() {
    let b = Aws::start(false).await.unwrap();
    b.server.world().set_alias("alias/storage", &b.key().0);
    let (kms, call, alias) =
        (b.connect(Caller::Data, &once()), CallCtx::new(), KeyRef("alias/storage".into()));
    let plain = PlainKey::from_bytes(&[7; 32]);
    let wrapped = kms.wrap(&alias, &plain, &CTX, &call).await.unwrap();
    let info = kms.describe(&alias, &call).await.unwrap();
    assert!(info.id.0.ends_with(&format!(":key/{}", b.key().0)), "{}", info.id);
    assert_eq!(kms.unwrap(&info.id, &wrapped, &CTX, &call).await.unwrap().key.expose(), plain.expose());
    b.owner().rotate(&alias, &call).await.unwrap();
    assert_eq!(kms.versions(&alias, &call).await.unwrap().len(), 2);
}
