//! States, permissions and tokens.

use super::{
    Arc, Bench, CTX, CallCtx, Caller, Duration, KeyRef, Kms, KmsError, Op, Options, PATIENCE, Wrapped, bare,
    rotate, unwrap,
};
use kms::ErrorKind;
use kms::{KeyState, PlainKey};

/// The errors of wrap, unwrap and rewrap.
async fn all_refused(kms: &Arc<dyn Kms>, key: &KeyRef, wrapped: &Wrapped) -> Vec<KmsError> {
    let (call, plain) = (CallCtx::new(), PlainKey::from_bytes(&[3; 32]));
    vec![
        kms.wrap(key, &plain, &CTX, &call).await.unwrap_err(),
        kms.generate(key, &CTX, &call).await.unwrap_err(),
        kms.unwrap(key, wrapped, &CTX, &call).await.unwrap_err(),
        kms.rewrap(key, wrapped, &CTX, &call).await.unwrap_err(),
    ]
}

pub async fn a_disabled_key_is_refused_at_once_and_enabling_brings_it_back(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().set_enabled(&key, false, &call).await.unwrap();
    for error in all_refused(&kms, &key, &wrapped).await {
        assert_eq!(error.kind, ErrorKind::KeyDisabled, "{error}");
        assert!(error.is_refusal() && error.context.key == Some(key.clone()));
    }
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Disabled);
    if let Err(error) = b.owner().set_enabled(&key, true, &call).await {
        assert!(matches!(error.kind, ErrorKind::TooEarly { .. }), "{error}");
        b.advance(PATIENCE).await;
        b.owner().set_enabled(&key, true, &call).await.unwrap();
    }
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Enabled);
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
}

pub async fn an_expired_key_unwraps_and_wraps_no_more(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.expiring_key(), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.advance(Duration::from_hours(48)).await;
    let error = kms.wrap(&key, &plain, &CTX, &call).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyExpired, "{error}");
    assert!(!error.is_refusal() && !error.retryable());
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Expired);
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
    let rewrapped = kms.rewrap(&key, &wrapped, &CTX, &call).await;
    if kms.caps().native_rewrap {
        rewrapped.unwrap();
    } else {
        assert_eq!(rewrapped.unwrap_err().kind, ErrorKind::KeyExpired, "it is a wrap, too");
    }
}

pub async fn a_deleted_key_stays_refused<B: Bench>(b: B) {
    let gone_for_good = B::SUBJECT.absent("a_deleted_key_can_be_restored").is_some();
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().delete(&key, &call).await.unwrap();
    for _ in 0..2 {
        for error in all_refused(&kms, &key, &wrapped).await {
            let gone = match error.kind {
                ErrorKind::KeyDestroyed { .. } | ErrorKind::KeyPendingDeletion { .. } => true,
                ErrorKind::KeyNotFound => gone_for_good,
                _ => false,
            };
            assert!(gone && error.is_refusal(), "{error}");
        }
        b.advance(PATIENCE).await;
    }
    match kms.describe(&key, &call).await {
        Ok(info) => assert!(!info.state.unwraps()),
        Err(error) => assert!(error.is_refusal(), "{error}"),
    }
}

pub async fn a_deleted_key_can_be_restored(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.owner().delete(&key, &call).await.unwrap();
    assert!(unwrap(&kms, &key, &wrapped).await.unwrap_err().is_refusal());
    b.advance(PATIENCE).await;
    b.owner().restore(&key, &call).await.unwrap();
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
}

pub async fn a_version_is_refused_alone(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    assert!(kms.caps().per_version_state);
    let (plain, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    rotate(&b).await;
    let (_, new) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.retire_old_versions(true).await;
    for error in
        [unwrap(&kms, &key, &old).await.unwrap_err(), kms.rewrap(&key, &old, &CTX, &call).await.unwrap_err()]
    {
        assert_eq!(error.kind, ErrorKind::VersionUnavailable { version: old.version.clone() }, "{error}");
        assert!(error.is_refusal());
    }
    unwrap(&kms, &key, &new).await.expect("the others serve on");
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Enabled);
    b.retire_old_versions(false).await;
    assert_eq!(unwrap(&kms, &key, &old).await.unwrap().key.expose(), plain.expose());
}

pub async fn a_missing_key_is_not_found_and_never_created(b: impl Bench) {
    let (kms, missing) = (b.connect(Caller::Data, &bare()), b.missing_key());
    let (_, wrapped) = kms.generate(&b.key(), &CTX, &CallCtx::new()).await.unwrap();
    let before = b.count_keys().await;
    assert!(before >= 2, "the test's own keys are counted");
    let mut errors = all_refused(&kms, &missing, &wrapped).await;
    errors.push(kms.describe(&missing, &CallCtx::new()).await.unwrap_err());
    for error in errors {
        assert_eq!(error.kind, ErrorKind::KeyNotFound, "{error}");
        assert!(error.is_refusal());
    }
    assert_eq!(b.count_keys().await, before);
}

pub async fn a_removed_permission_is_denied_after_one_new_token(b: impl Bench) {
    let (kms, key) = (b.connect(Caller::Data, &bare()), b.key());
    let (_, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    b.permit(Caller::Data, false).await;
    b.reset_requests();
    let error = unwrap(&kms, &key, &wrapped).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied { confirmed: true }, "{error}");
    assert_eq!(b.requests(Op::Authenticate), 1);
    assert_eq!(kms.describe(&key, &CallCtx::new()).await.unwrap_err().reason(), "KeyAccessDenied");
    b.permit(Caller::Data, true).await;
    unwrap(&kms, &key, &wrapped).await.unwrap();
}

pub async fn revoked_tokens_cost_one_login_for_a_hundred_calls(b: impl Bench) {
    let options = Options { max_concurrency: 100, ..bare() };
    let (kms, key, call) = (b.connect(Caller::Data, &options), b.key(), CallCtx::new());
    let mut blobs = Vec::new();
    for _ in 0..100 {
        blobs.push(kms.generate(&key, &CTX, &call).await.unwrap().1);
    }
    b.revoke_tokens().await;
    b.reset_requests();
    let calls = blobs.iter().map(|blob| kms.unwrap(&key, blob, &CTX, &call));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(b.requests(Op::Authenticate), 1);
}

pub async fn a_replaced_credential_file_is_picked_up(b: impl Bench) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credential");
    std::fs::write(&path, b.secret(Caller::Nobody)).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &bare());
    // Where the file does not tell who calls, or nothing is ever denied, a secret of nobody is a wrong one.
    let reason = kms.describe(&b.key(), &CallCtx::new()).await.unwrap_err().reason();
    assert!(["KeyAccessDenied", "CredentialRejected"].contains(&reason), "{reason}");
    std::fs::write(dir.path().join("next"), b.secret(Caller::Data)).unwrap();
    std::fs::rename(dir.path().join("next"), &path).unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = kms.describe(&b.key(), &CallCtx::new()).await {
        assert!(tokio::time::Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn a_service_ten_minutes_ahead_is_no_matter(b: impl Bench) {
    let (kms, key) = (b.connect(Caller::Data, &bare()), b.key());
    let (plain, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    b.advance(Duration::from_mins(10)).await;
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
    let kms = b.connect(Caller::Data, &bare());
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
    // The token that we hold ends for the service long before it ends for us.
    b.advance(Duration::from_hours(3)).await;
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
}

pub async fn a_data_credential_cannot_change_the_root_key(b: impl Bench) {
    let (key, call) = (b.key(), CallCtx::new());
    b.advance(Duration::from_hours(2)).await;
    for caller in [Caller::Data, Caller::Rewrap] {
        let owner = b.owner_as(caller);
        let new = kms::admin::NewKey { name: "x".into(), description: None };
        let errors = [
            owner.rotate(&key, &call).await.unwrap_err(),
            owner.set_enabled(&key, false, &call).await.unwrap_err(),
            owner.set_enabled(&key, true, &call).await.unwrap_err(),
            owner.delete(&key, &call).await.unwrap_err(),
            owner.set_auto_rotation(&key, None, &call).await.unwrap_err(),
            owner.create(&new, &call).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.reason(), "KeyAccessDenied", "{caller:?}: {error}");
        }
    }
    let kms = b.connect(Caller::Data, &bare());
    assert_eq!(kms.describe(&key, &call).await.unwrap().state, KeyState::Enabled);
    assert_eq!(kms.versions(&key, &call).await.unwrap().len(), 1);
}

pub async fn a_rewrap_credential_cannot_unwrap(b: impl Bench) {
    let key = b.key();
    let (plain, wrapped) =
        b.connect(Caller::Data, &bare()).generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    let kms = b.connect(Caller::Rewrap, &bare());
    assert!(kms.caps().native_rewrap);
    let rewrapped = kms.rewrap(&key, &wrapped, &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap_err().reason(), "KeyAccessDenied");
    let data = b.connect(Caller::Data, &bare());
    assert_eq!(unwrap(&data, &key, &rewrapped).await.unwrap().key.expose(), plain.expose());
}
