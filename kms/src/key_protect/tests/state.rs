//! A conflict with the key's state: which one it is, the metadata say.

use secrecy::SecretString;

use super::fake::*;
use crate::call::CallCtx;
use crate::connect::connect_with_secret;
use crate::error::{ErrorKind, KmsError};

const CTX: [u8; 32] = [1; 32];

async fn conflict_with(metadata: Say) -> (KmsError, usize) {
    let fake = Fake::start(move |request| {
        if request.line.ends_with("/metadata") {
            metadata.clone()
        } else {
            vendor_error(409, "KEY_ACTION_INVALID_STATE_ERR")
        }
    })
    .await;
    let kms = connect_with_secret(&fake.config(), SecretString::from(API_KEY), &bare()).unwrap();
    let error = kms.unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap_err();
    (error, fake.calls().len())
}

fn in_state(state: u8) -> Say {
    ok(format!(r#"{{"resources":[{{"id":"{KEY}","state":{state},"deletionDate":"2026-01-02T00:00:00Z"}}]}}"#))
}

#[tokio::test]
async fn each_state_is_told_apart() {
    let disabled = conflict_with(in_state(2)).await;
    assert_eq!((disabled.0.reason(), disabled.1), ("KeyDisabled", 2));
    assert!(disabled.0.is_refusal());
    assert_eq!(disabled.0.context.code.as_deref(), Some("KEY_ACTION_INVALID_STATE_ERR"));
    assert_eq!(disabled.0.context.http_status, Some(409));

    let (expired, _) = conflict_with(in_state(3)).await;
    assert_eq!((expired.reason(), expired.is_refusal()), ("KeyExpired", false));

    let (destroyed, _) = conflict_with(in_state(5)).await;
    let ErrorKind::KeyDestroyed { recoverable_until: Some(until) } = destroyed.kind else {
        panic!("{destroyed}")
    };
    let days = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    assert_eq!(days, 20_455 + 30, "30 days after 2026-01-02");
}

#[tokio::test]
async fn a_state_that_changed_meanwhile_or_cannot_be_read_is_not_a_refusal() {
    let metadata = [
        in_state(1),
        in_state(4),
        status(500, ERROR_JSON, "{}"),
        status(200, "text/html", "<html>"),
        ok(r#"{"resources":[]}"#),
        Say::Reset,
    ];
    for say in metadata {
        let (error, _) = conflict_with(say.clone()).await;
        assert!(error.is_outage() && !error.is_refusal(), "{say:?}: {error}");
    }
}
