//! What a credential may do: golden requests, and what each pair of answers means.

use std::sync::Arc;

use secrecy::SecretString;

use super::fake::*;
use crate::admin::{Ability, KmsAdmin, Permission};
use crate::call::CallCtx;
use crate::connect::connect_admin;

const ENABLED: &str = r#"{"resources":[{"id":"k","state":1,"extractable":false,"keyVersion":{"id":"v1"}}]}"#;
const SUSPENDED: &str =
    r#"{"resources":[{"id":"k","state":2,"extractable":false,"keyVersion":{"id":"v1"}}]}"#;
const POLICIES: &str = r#"{"resources":[]}"#;
const ALL: [Ability; 3] = [Ability::Rotate, Ability::SetRotationPolicy, Ability::Disable];

fn admin(fake: &Fake) -> Arc<dyn KmsAdmin> {
    connect_admin(&fake.config(), Some(SecretString::from(API_KEY)), &bare()).unwrap()
}

fn denied() -> Say {
    vendor_error(401, "UNAUTHORIZED_ERR")
}

/// What a change in vain is answered, and what a look at the policies.
async fn service(change: fn() -> Say, policies: fn() -> Say) -> Fake {
    Fake::start(move |request| match request.line.as_str() {
        line if line.ends_with("/metadata") => ok(ENABLED),
        line if line.starts_with("GET") => policies(),
        _ => change(),
    })
    .await
}

async fn asked(fake: &Fake, what: Ability) -> crate::error::Result<Permission> {
    admin(fake).may(what, &key(), &CallCtx::new()).await
}

#[tokio::test]
async fn what_is_asked_can_change_nothing() {
    let fake = service(|| vendor_error(400, "INVALID_FIELD_ERR"), || ok(POLICIES)).await;
    for what in ALL {
        asked(&fake, what).await.unwrap();
    }
    let path = format!("/api/v2/keys/{KEY}");
    let changes = fake.calls().into_iter().filter(|call| !call.line.starts_with("GET"));
    let sent: Vec<_> = changes.map(|call| (call.line, call.body)).collect();
    let metadata = r#"{"collectionType":"application/vnd.ibm.kms.policy+json","collectionTotal":1}"#;
    let rotation = r#"{"enabled":true,"interval_month":"never"}"#;
    let policy = format!(
        r#"{{"metadata":{metadata},"resources":[{{"type":"application/vnd.ibm.kms.policy+json","rotation":{rotation}}}]}}"#
    );
    let expected = [
        (format!("POST {path}/actions/rotate"), r#"{"payload":"!"}"#.to_owned()),
        (format!("PUT {path}/policies?policy=rotation"), policy),
        (format!("POST {path}/actions/enable"), String::new()),
    ];
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_denial_proves_that_a_permission_is_missing_and_only_the_managers_reading_that_it_is_there() {
    let invalid = || vendor_error(400, "INVALID_FIELD_ERR");
    let wrong_state = || vendor_error(409, "KEY_ACTION_INVALID_STATE_ERR");
    let too_early = || vendor_error(409, "KEY_ROTATION_NOT_PERMITTED");
    for what in ALL {
        let fake = service(denied, denied).await;
        assert_eq!(asked(&fake, what).await.unwrap(), Permission::Withheld, "{what:?}");
        for looked_at in [invalid, wrong_state, too_early] {
            let fake = service(looked_at, || ok(POLICIES)).await;
            assert_eq!(asked(&fake, what).await.unwrap(), Permission::Granted, "{what:?}");
            let fake = service(looked_at, denied).await;
            assert_eq!(asked(&fake, what).await.unwrap(), Permission::Open, "{what:?}");
        }
    }
}

#[tokio::test]
async fn an_outage_is_no_answer_and_says_so() {
    let down = || status(503, "text/plain", "down");
    let invalid = || vendor_error(400, "INVALID_FIELD_ERR");
    for fake in [service(down, down).await, service(invalid, down).await] {
        let error = asked(&fake, Ability::Rotate).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_enabled_is_never_told_to_be() {
    let fake = Fake::start(|_| ok(SUSPENDED)).await;
    assert_eq!(asked(&fake, Ability::Disable).await.unwrap(), Permission::Open);
    assert!(fake.calls().iter().all(|call| call.line.starts_with("GET")), "{:?}", fake.calls());
}
