//! States: the service has them for versions, people mean the key.

use std::time::Duration;

use kms::{CallCtx, ErrorKind, KeyState, KeyVersion, Wrapped};
use providers::checks::CTX;
use providers::google::{email, key};
use providers::{Bench, Caller, Google};

use crate::once;

fn version(number: &str) -> KeyVersion {
    KeyVersion(number.into())
}

#[tokio::test]
async fn a_key_is_what_its_primary_version_is() {
    let b = Google::start(false).await.unwrap();
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (plain, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().rotate(&key, &call).await.unwrap();
    let (_, new) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.server.world().set_enabled(&key.0, 2, false);
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Disabled);
    let refused = kms.unwrap(&key, &new, &CTX, &call).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::KeyDisabled, "{refused}");
    let refused = kms.rewrap(&key, &old, &CTX, &call).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::KeyDisabled, "it unwraps, and nothing wraps it again: {refused}");
    // The service itself goes on with what the other version wrapped; that every version is disabled is the owner's way to stop it.
    assert_eq!(kms.unwrap(&key, &old, &CTX, &call).await.unwrap().key.expose(), plain.expose());
    b.owner().set_enabled(&key, false, &call).await.unwrap();
    let refused = kms.unwrap(&key, &old, &CTX, &call).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::KeyDisabled, "{refused}");
    b.owner().set_enabled(&key, true, &call).await.unwrap();
    for wrapped in [&old, &new] {
        kms.unwrap(&key, wrapped, &CTX, &call).await.unwrap();
    }
}

#[tokio::test]
async fn a_deletion_says_its_time_and_ends_in_destruction() {
    let b = Google::start(false).await.unwrap();
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().delete(&key, &call).await.unwrap();
    let refused = kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap_err();
    let ErrorKind::KeyPendingDeletion { until: Some(until) } = refused.kind else { panic!("{refused}") };
    let days = until.duration_since(std::time::SystemTime::now()).unwrap().as_secs() / 86_400;
    assert!((29..=30).contains(&days), "{days}");
    b.server.world().advance(31 * 86_400);
    for error in [
        kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap_err(),
        kms.generate(&key, &CTX, &call).await.unwrap_err(),
    ] {
        assert!(matches!(error.kind, ErrorKind::KeyDestroyed { .. }), "{error}");
    }
    assert!(kms.versions(&key, &call).await.unwrap().is_empty(), "no version is left");
    b.owner().restore(&key, &call).await.unwrap();
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Destroyed, "nothing brings it back");
}

#[tokio::test]
async fn a_version_that_somebody_wrote_into_a_file_is_not_believed() {
    let b = Google::start(false).await.unwrap();
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let (_, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().rotate(&key, &call).await.unwrap();
    let used = async |wrapped: Wrapped| kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap().used;
    assert_eq!(
        used(old.clone()).await,
        Some(version("1")),
        "after a rotation that this connection has not seen"
    );
    assert_eq!(used(Wrapped { version: Some(version("2")), ..old.clone() }).await, None);
    assert_eq!(used(Wrapped { version: None, ..old.clone() }).await, None);
    assert_eq!(used(Wrapped { version: Some(version("../1")), ..old.clone() }).await, None);
    let new = kms.rewrap(&key, &old, &CTX, &call).await.unwrap();
    assert_eq!(used(new.clone()).await, Some(version("2")));
    assert_eq!(used(Wrapped { version: Some(version("1")), ..new }).await, None);
}

#[tokio::test]
async fn who_may_not_read_a_key_cannot_know_that_it_is_not_there() {
    let b = Google::start(false).await.unwrap();
    let (kms, call) = (b.connect(Caller::Data, &once()), CallCtx::new());
    let missing = b.missing_key();
    let error = kms.generate(&missing, &CTX, &call).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyNotFound, "may read the ring's keys: {error}");
    let member = format!("serviceAccount:{}", email("data"));
    {
        let mut world = b.server.world();
        world.revoke(&member);
        world.grant(&key("storage"), emulator_google::ENCRYPTER_DECRYPTER, &member);
    }
    let error = kms.generate(&missing, &CTX, &call).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Denied { .. }), "{error}");
    kms.generate(&b.key(), &CTX, &call).await.unwrap();
}

#[tokio::test]
async fn the_service_rotates_by_itself_where_it_was_told_to() {
    let b = Google::start(false).await.unwrap();
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let month = Duration::from_hours(720);
    b.owner().set_auto_rotation(&key, Some(month), &call).await.unwrap();
    let info = kms.describe(&key, &call).await.unwrap();
    assert_eq!((info.auto_rotation, info.current, info.rotated_at), (Some(month), Some(version("1")), None));
    b.server.world().advance(31 * 86_400);
    let info = kms.describe(&key, &call).await.unwrap();
    assert_eq!(info.current, Some(version("2")));
    assert!(info.rotated_at.is_some());
    b.owner().set_auto_rotation(&key, None, &call).await.unwrap();
    b.server.world().advance(31 * 86_400);
    let info = kms.describe(&key, &call).await.unwrap();
    assert_eq!((info.auto_rotation, info.current), (None, Some(version("2"))));
}
