//! What the vault says of a key's state, and what becomes of it.

use super::fake::*;
use crate::call::CallCtx;
use crate::error::{ErrorKind, Outage};
use crate::key::{KeyInfo, KeyState, KeyVersion, Origin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2020-01-01, as the vault's clock has it: ours has another time.
const VAULT_DATE: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
const VAULT_NOW: i64 = 1_577_836_800;

fn dated(body: String) -> Say {
    Say::Answer { status: 200, kind: JSON, headers: vec![("Date", VAULT_DATE.into())], body }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn described(kty: &'static str, attributes: String) -> crate::Result<KeyInfo> {
    let fake = fake(move |request| match line(request).as_str() {
        "GET /keys/k" => dated(key_body(kty, &attributes)),
        _ => error(403, "Forbidden", "ForbiddenByRbac"),
    })
    .await;
    let described = kms(&fake).describe(&key(), &CallCtx::new()).await;
    let lines = asked(&fake);
    assert!(lines.iter().all(|line| line.starts_with("GET")), "{lines:?}");
    assert_eq!(
        fake.requests().iter().filter(|request| is_login(request)).count(),
        1,
        "a policy that may not be seen"
    );
    described
}

#[tokio::test]
async fn a_keys_state_is_that_of_its_current_version_by_the_vaults_own_time() {
    let (past, future) = (VAULT_NOW - 1, VAULT_NOW + 1);
    for (attributes, state) in [
        (String::new(), KeyState::Enabled),
        (r#""enabled":true"#.into(), KeyState::Enabled),
        (r#""enabled":false"#.into(), KeyState::Disabled),
        (format!(r#""enabled":false,"exp":{past}"#), KeyState::Disabled),
        (format!(r#""enabled":true,"exp":{future},"nbf":{past}"#), KeyState::Enabled),
        (format!(r#""enabled":true,"exp":{VAULT_NOW}"#), KeyState::Expired),
        (format!(r#""enabled":true,"nbf":{future}"#), KeyState::Expired),
    ] {
        assert_eq!(described("RSA", attributes.clone()).await.unwrap().state, state, "{attributes}");
    }
    let info =
        described("RSA-HSM", r#""created":1500000000,"exp":1700000000,"recoveryLevel":"Recoverable""#.into());
    let info = info.await.unwrap();
    assert_eq!((info.current, info.origin), (Some(KeyVersion(V2.into())), Origin::Generated));
    assert_eq!(info.rotated_at.map(seconds), Some(1_500_000_000));
    assert_eq!(info.expires_at.map(seconds), Some(1_700_000_000));
    assert_eq!(info.auto_rotation, None);
}

#[tokio::test]
async fn a_key_that_cannot_wrap_is_said_so() {
    for kty in ["EC", "EC-HSM", "OKP"] {
        let error = described(kty, String::new()).await.unwrap_err();
        assert!(error.to_string().contains(kty), "{error}");
        assert!(!error.is_outage() && !error.is_refusal());
    }
}

#[tokio::test]
async fn the_vaults_own_rotation_is_shown_where_it_may_be_seen_and_not_asked_for_each_time() {
    let fake = fake(|request| match line(request).as_str() {
        "GET /keys/k" => ok(key_body("RSA", "")),
        "GET /keys/k/rotationpolicy" => ok(
            r#"{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"type":"Rotate"}}],"attributes":{}}"#,
        ),
        other => unreachable!("{other}"),
    })
    .await;
    let kms = kms(&fake);
    for _ in 0..3 {
        let info = kms.describe(&key(), &CallCtx::new()).await.unwrap();
        assert_eq!(info.auto_rotation, Some(Duration::from_hours(24 * 90)));
    }
    let policies = asked(&fake).iter().filter(|line| line.ends_with("rotationpolicy")).count();
    assert_eq!((policies, asked(&fake).len()), (1, 4));
}

#[tokio::test]
async fn nothing_is_wrapped_with_a_key_that_may_not_wrap_now() {
    for (attributes, kind) in [
        (r#""enabled":false"#.to_owned(), ErrorKind::KeyDisabled),
        (format!(r#""exp":{}"#, VAULT_NOW - 1), ErrorKind::KeyExpired),
        (format!(r#""nbf":{}"#, VAULT_NOW + 60), ErrorKind::TooEarly { retry_after: Duration::from_mins(1) }),
    ] {
        let fake = fake(move |_| dated(key_body("RSA", &attributes))).await;
        let error = kms(&fake).wrap(&key(), &plain(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, kind);
        assert_eq!(asked(&fake), ["GET /keys/k"]);
    }
}

/// The error of an unwrap where the vault says `unwrap` of it, `look` of the key and `deleted` of the deleted key.
async fn unwrapping(unwrap: Say, look: Say, deleted: Say) -> crate::KmsError {
    let fake = fake(move |request| match line(request).as_str() {
        "GET /keys/k" => look.clone(),
        "GET /deletedkeys/k" => deleted.clone(),
        _ => unwrap.clone(),
    })
    .await;
    kms(&fake).unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap_err()
}

#[tokio::test]
async fn what_is_said_of_a_version_is_read_in_the_light_of_the_key() {
    let not_found = || error(404, "KeyNotFound", "");
    let disabled = || error(403, "Forbidden", "KeyDisabled");
    let there = || ok(key_body("RSA", r#""enabled":true"#));
    let deleted = || ok(r#"{"scheduledPurgeDate":1700000000,"recoveryId":"x"}"#);
    let purge = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let outage = || status(503, "", "");
    let out = ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None };
    let version = Some(KeyVersion(V1.into()));
    for (unwrap, look, deleted, kind) in [
        (not_found(), there(), not_found(), ErrorKind::CiphertextInvalid),
        (not_found(), not_found(), not_found(), ErrorKind::KeyNotFound),
        (not_found(), not_found(), deleted(), ErrorKind::KeyPendingDeletion { until: Some(purge) }),
        (not_found(), not_found(), error(403, "Forbidden", "ForbiddenByRbac"), ErrorKind::KeyNotFound),
        (not_found(), outage(), not_found(), out.clone()),
        (disabled(), there(), not_found(), ErrorKind::VersionUnavailable { version }),
        (disabled(), ok(key_body("RSA", r#""enabled":false"#)), not_found(), ErrorKind::KeyDisabled),
        (disabled(), disabled(), not_found(), ErrorKind::KeyDisabled),
        (disabled(), outage(), not_found(), ErrorKind::KeyDisabled),
        (outage(), there(), not_found(), out),
    ] {
        assert_eq!(unwrapping(unwrap, look, deleted).await.kind, kind);
    }
}

#[tokio::test]
async fn a_rotation_gives_a_disabled_key_no_enabled_version() {
    let fake = fake(|_| ok(key_body("RSA", r#""enabled":false"#))).await;
    let error = admin(&fake).rotate(&key(), &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyDisabled);
    assert_eq!(asked(&fake), ["GET /keys/k"]);
}
