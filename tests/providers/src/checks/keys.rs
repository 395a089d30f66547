//! Wrap, unwrap, rewrap, versions.

use super::{
    Arc, Bench, CTX, CallCtx, Caller, KeyRef, Kms, Op, Options, RetryPolicy, Wrapped, bare, rotate, unwrap,
};
use kms::{ContextScheme, KeyVersion, PlainKey};

pub async fn a_generated_key_unwraps_to_itself_and_two_differ(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let (first, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    let (second, other) = kms.generate(&key, &CTX, &call).await.unwrap();
    assert_ne!(first.expose(), second.expose());
    assert_ne!(wrapped.blob, other.blob);
    assert_ne!(first.expose(), &[0; 32]);
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), first.expose());
    assert_eq!(unwrap(&kms, &key, &other).await.unwrap().key.expose(), second.expose());
}

pub async fn a_given_key_unwraps_to_itself_and_two_wraps_differ(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    // Bytes that look like text, like base64 and like nothing, so that an encoding too many or too few shows.
    for bytes in [[b'A'; 32], [0xff; 32], [0; 32], *b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="] {
        let plain = PlainKey::from_bytes(&bytes);
        let first = kms.wrap(&key, &plain, &CTX, &call).await.unwrap();
        let second = kms.wrap(&key, &plain, &CTX, &call).await.unwrap();
        assert_ne!(first.blob, second.blob);
        assert_eq!(first.scheme, kms.caps().scheme);
        assert_eq!(first.version.is_some(), kms.caps().version_in_reply);
        for wrapped in [&first, &second] {
            assert_eq!(unwrap(&kms, &key, wrapped).await.unwrap().key.expose(), &bytes);
        }
    }
}

pub async fn a_wrong_context_is_invalid_and_never_tried_again(b: impl Bench) {
    let options = Options { retry: RetryPolicy::default(), ..bare() };
    let (kms, key, call) = (b.connect(Caller::Data, &options), b.key(), CallCtx::new());
    let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.reset_requests();
    let mut other = CTX;
    other[31] ^= 1;
    for wrong in [other, [0; 32]] {
        let error = kms.unwrap(&key, &wrapped, &wrong, &call).await.unwrap_err();
        assert_eq!(error.reason(), "CiphertextInvalid", "{error}");
        let error = kms.rewrap(&key, &wrapped, &wrong, &call).await.unwrap_err();
        assert_eq!(error.reason(), "CiphertextInvalid", "{error}");
    }
    let expected = if kms.caps().native_rewrap { (2, 2) } else { (4, 0) };
    assert_eq!((b.requests(Op::Unwrap), b.requests(Op::Rewrap)), expected);
}

pub async fn a_damaged_blob_is_invalid_and_never_tried_again(b: impl Bench) {
    let options = Options { retry: RetryPolicy::default(), ..bare() };
    let (kms, key, call) = (b.connect(Caller::Data, &options), b.key(), CallCtx::new());
    let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    let len = wrapped.blob.len();
    for at in (0..len).step_by(len / 16) {
        let mut damaged = wrapped.clone();
        damaged.blob[at] = if damaged.blob[at] == b'A' { b'B' } else { b'A' };
        b.reset_requests();
        let error = unwrap(&kms, &key, &damaged).await.unwrap_err();
        assert_eq!(error.reason(), "CiphertextInvalid", "byte {at}: {error}");
        assert!(b.requests(Op::Unwrap) <= 1, "tried again");
    }
    for keep in [0, 1, len / 2, len - 4] {
        let cut = Wrapped { blob: wrapped.blob[..keep].to_vec(), ..wrapped.clone() };
        let error = unwrap(&kms, &key, &cut).await.unwrap_err();
        assert_eq!(error.reason(), "CiphertextInvalid", "cut at {keep}: {error}");
    }
    let scheme = if wrapped.scheme == ContextScheme::None { ContextScheme::Aad } else { ContextScheme::None };
    let unbound = Wrapped { scheme, ..wrapped.clone() };
    assert!(unwrap(&kms, &key, &unbound).await.is_err(), "a scheme that it was not wrapped with");
    unwrap(&kms, &key, &wrapped).await.unwrap();
}

pub async fn the_blob_of_another_root_key_is_invalid(b: impl Bench) {
    let (kms, call) = (b.connect(Caller::Data, &bare()), CallCtx::new());
    let (_, wrapped) = kms.generate(&b.other_key(), &CTX, &call).await.unwrap();
    let error = unwrap(&kms, &b.key(), &wrapped).await.unwrap_err();
    assert_eq!(error.reason(), "CiphertextInvalid", "{error}");
}

pub async fn a_blob_survives_a_restart_and_a_round_trip_through_json(mut b: impl Bench) {
    let kms = b.connect(Caller::Data, &bare());
    let (plain, wrapped) = kms.generate(&b.key(), &CTX, &CallCtx::new()).await.unwrap();
    let stored = serde_json::to_string(&wrapped).unwrap();
    b.restart().await;
    let loaded: Wrapped = serde_json::from_str(&stored).unwrap();
    assert_eq!(loaded, wrapped);
    let kms = b.connect(Caller::Data, &bare());
    assert_eq!(unwrap(&kms, &b.key(), &loaded).await.unwrap().key.expose(), plain.expose());
    let scheme = serde_json::to_string(&wrapped.scheme).unwrap();
    let unknown = stored.replace(&scheme, "\"somethingNew\"");
    assert_ne!(unknown, stored);
    assert!(serde_json::from_str::<Wrapped>(&unknown).is_err(), "a scheme that nobody knows");
}

async fn current(kms: &Arc<dyn Kms>, key: &KeyRef) -> KeyVersion {
    kms.describe(key, &CallCtx::new()).await.unwrap().current.unwrap()
}

pub async fn rotation_changes_the_version_and_old_blobs_go_on_unwrapping(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let (plain, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    let before = current(&kms, &key).await;
    assert_eq!(old.version.as_ref(), Some(&before));
    let fresh = unwrap(&kms, &key, &old).await.unwrap();
    assert_eq!((fresh.used.as_ref(), fresh.rewrapped), (Some(&before), None), "nothing to rewrap yet");

    rotate(&b).await;
    let after = current(&kms, &key).await;
    assert_ne!(before, after);
    let unwrapped = unwrap(&kms, &key, &old).await.unwrap();
    assert_eq!(unwrapped.key.expose(), plain.expose());
    assert_eq!(unwrapped.used, Some(before));
    assert_eq!(unwrapped.rewrapped.is_some(), kms.caps().rewrap_on_unwrap);
    if let Some(rewrapped) = unwrapped.rewrapped {
        assert_eq!(rewrapped.version.as_ref(), Some(&after));
        let again = unwrap(&kms, &key, &rewrapped).await.unwrap();
        assert_eq!(
            (again.key.expose(), again.used, again.rewrapped),
            (plain.expose(), Some(after.clone()), None)
        );
    }
    let (_, new) = kms.generate(&key, &CTX, &call).await.unwrap();
    assert_eq!(new.version, Some(after));
}

pub async fn the_oldest_blob_opens_after_six_rotations(b: impl Bench) {
    let (kms, key) = (b.connect(Caller::Data, &bare()), b.key());
    let (plain, oldest) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    for _ in 0..6 {
        rotate(&b).await;
    }
    assert_eq!(unwrap(&kms, &key, &oldest).await.unwrap().key.expose(), plain.expose());
}

pub async fn rewrap_reaches_the_current_version_with_the_same_key(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let (plain, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    rotate(&b).await;
    let after = current(&kms, &key).await;
    let new = kms.rewrap(&key, &old, &CTX, &call).await.unwrap();
    assert_eq!(new.version.as_ref(), Some(&after));
    assert_eq!(unwrap(&kms, &key, &new).await.unwrap().key.expose(), plain.expose());
    let same = kms.rewrap(&key, &new, &CTX, &call).await.unwrap();
    assert_eq!(same.version.as_ref(), Some(&after), "a second rewrap changes nothing that matters");
    assert_eq!(unwrap(&kms, &key, &same).await.unwrap().key.expose(), plain.expose());
    assert_eq!(
        unwrap(&kms, &key, &old).await.unwrap().key.expose(),
        plain.expose(),
        "the old blob still opens"
    );
}

pub async fn versions_are_listed_with_the_current_one_first(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    assert!(kms.caps().list_versions);
    let mut seen = vec![current(&kms, &key).await];
    for _ in 0..2 {
        rotate(&b).await;
        seen.insert(0, current(&kms, &key).await);
    }
    let listed = kms.versions(&key, &call).await.unwrap();
    assert_eq!(listed.iter().map(|info| info.version.clone()).collect::<Vec<_>>(), seen);
    assert!(listed.iter().all(|info| info.created_at.is_some()));
    b.owner().set_enabled(&key, false, &call).await.unwrap();
    assert_eq!(kms.versions(&key, &call).await.unwrap().len(), 3, "of a disabled key too");
}

pub async fn the_vendor_sees_the_same_thirty_two_bytes(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    for bytes in [[0xff; 32], *b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="] {
        let wrapped = kms.wrap(&key, &PlainKey::from_bytes(&bytes), &CTX, &call).await.unwrap();
        assert_eq!(b.unwrapped_by_vendor(&wrapped).await, bytes, "encoded once, neither more nor less often");
    }
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    assert_eq!(b.unwrapped_by_vendor(&wrapped).await, plain.expose());
}

pub async fn a_key_moves_to_another_provider(b: impl Bench) {
    let other = crate::KeyProtect::start(false).await.unwrap();
    let (old, new) = (b.connect(Caller::Data, &bare()), other.connect(Caller::Data, &bare()));
    let (plain, wrapped) = old.generate(&b.key(), &CTX, &CallCtx::new()).await.unwrap();
    let there = unwrap(&old, &b.key(), &wrapped).await.unwrap().key;
    let moved = new.wrap(&other.key(), &there, &CTX, &CallCtx::new()).await.unwrap();
    assert_eq!(unwrap(&new, &other.key(), &moved).await.unwrap().key.expose(), plain.expose());
    let stranger = unwrap(&new, &other.key(), &wrapped).await.unwrap_err();
    assert_eq!(stranger.reason(), "CiphertextInvalid", "{stranger}");
    let back = unwrap(&old, &b.key(), &moved).await.unwrap_err();
    assert_eq!(back.reason(), "CiphertextInvalid", "{back}");
}

pub async fn what_it_says_it_can_do_is_what_it_does(b: impl Bench) {
    let (kms, key, call) = (b.connect(Caller::Data, &bare()), b.key(), CallCtx::new());
    let caps = kms.caps().clone();
    b.reset_requests();
    let (_, old) = kms.generate(&key, &CTX, &call).await.unwrap();
    assert_eq!((old.scheme, old.version.is_some()), (caps.scheme, caps.version_in_reply));
    assert_eq!(b.requests(Op::Generate) == 1, caps.native_generate);
    rotate(&b).await;
    assert_eq!(unwrap(&kms, &key, &old).await.unwrap().rewrapped.is_some(), caps.rewrap_on_unwrap);
    b.reset_requests();
    kms.rewrap(&key, &old, &CTX, &call).await.unwrap();
    assert_eq!(
        (b.requests(Op::Rewrap), b.requests(Op::Unwrap)),
        if caps.native_rewrap { (1, 0) } else { (0, 1) }
    );
    assert_eq!(kms.versions(&key, &call).await.is_ok_and(|all| all.len() == 2), caps.list_versions);
    let again = b.owner().rotate(&key, &call).await;
    match caps.min_rotate_interval {
        None => again.unwrap(),
        Some(interval) => assert_eq!(again.unwrap_err().retry_after(), Some(interval)),
    }
}
