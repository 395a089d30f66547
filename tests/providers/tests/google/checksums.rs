//! Checksums in both directions: what is damaged on its way is never taken for a key, nor for a wrong one.

use emulator_google::Damage;
use kms::{CallCtx, KmsError, PlainKey};
use providers::checks::CTX;
use providers::{Bench, Caller, Google};

use crate::once;

/// It says nothing about the key, and another try may help.
fn is_damage(error: &KmsError) -> bool {
    error.reason() == "KmsAnswerUnusable" && error.is_outage() && error.retryable() && !error.is_refusal()
}

#[tokio::test]
async fn what_is_damaged_on_its_way_is_noticed() {
    let b = Google::start(false).await.unwrap();
    let (kms, key, call) = (b.connect(Caller::Data, &once()), b.key(), CallCtx::new());
    let plain = PlainKey::from_bytes(&[7; 32]);
    let wrapped = kms.wrap(&key, &plain, &CTX, &call).await.unwrap();
    for damage in
        [Damage::Request, Damage::RequestChecksums, Damage::Answer, Damage::AnswerChecksum, Damage::OtherKey]
    {
        b.server.world().damage(Some(damage));
        let error = kms.wrap(&key, &plain, &CTX, &call).await.unwrap_err();
        assert!(is_damage(&error), "wrap, {damage:?}: {error}");
        let error = kms.generate(&key, &CTX, &call).await.unwrap_err();
        assert!(is_damage(&error), "generate, {damage:?}: {error}");
        // What is lost of a request to unwrap makes it fail, or makes no difference; and its answer names no key.
        if !matches!(damage, Damage::RequestChecksums | Damage::OtherKey) {
            let error = kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap_err();
            assert!(is_damage(&error), "unwrap, {damage:?}: {error}");
        }
        let error = kms.rewrap(&key, &wrapped, &CTX, &call).await.unwrap_err();
        assert!(is_damage(&error), "rewrap, {damage:?}: {error}");
    }
    b.server.world().damage(None);
    let whole = kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap();
    assert_eq!(whole.key.expose(), plain.expose());
}
