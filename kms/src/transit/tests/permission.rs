//! What a token may do: the golden question, and what its answers mean.

use std::sync::Arc;

use contract::config::{Credential, Provider, Transit};
use secrecy::SecretString;

use crate::admin::{Ability, KmsAdmin, Permission};
use crate::call::CallCtx;
use crate::config::ProviderConfig;
use crate::connect::connect_admin;
use crate::http::fake::{Fake, JSON, Say, bare, ok, status};
use crate::key::KeyRef;

async fn server(say: impl Fn() -> Say + Send + 'static) -> (Fake, Arc<dyn KmsAdmin>) {
    let fake = Fake::raw(move |request| {
        if request.line.ends_with("lookup-self") {
            ok(r#"{"data":{"ttl":3600,"renewable":false}}"#)
        } else {
            say()
        }
    })
    .await;
    let provider = Provider::Transit(Transit {
        endpoint: format!("http://{}", fake.at),
        namespace: None,
        mount: "kv/transit".into(),
        key: "k".into(),
    });
    let credential = Credential::TokenFile { path: "/not/read".into() };
    let config = ProviderConfig::new(provider, credential).at_loopback();
    let admin = connect_admin(&config, Some(SecretString::from("s.token")), &bare()).unwrap();
    (fake, admin)
}

async fn may(body: &'static str, what: Ability) -> Permission {
    let (_fake, admin) = server(move || ok(body)).await;
    admin.may(what, &KeyRef("k".into()), &CallCtx::new()).await.unwrap()
}

#[tokio::test]
async fn the_server_is_asked_for_the_paths_that_change_the_key() {
    let (fake, admin) = server(|| ok(r#"{"data":{}}"#)).await;
    for what in [Ability::Rotate, Ability::SetRotationPolicy, Ability::Disable] {
        admin.may(what, &KeyRef("k".into()), &CallCtx::new()).await.unwrap();
    }
    let asked: Vec<_> = fake
        .requests()
        .into_iter()
        .filter(|request| request.line == "POST /v1/sys/capabilities-self")
        .map(|request| request.body)
        .collect();
    let expected = [
        r#"{"paths":["kv/transit/keys/k/rotate"]}"#,
        r#"{"paths":["kv/transit/keys/k/config"]}"#,
        r#"{"paths":["kv/transit/keys/k/soft-delete","kv/transit/keys/k"]}"#,
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn only_what_the_server_says_of_a_path_counts() {
    let rotate = Ability::Rotate;
    assert_eq!(
        may(r#"{"data":{"kv/transit/keys/k/rotate":["create","update"]}}"#, rotate).await,
        Permission::Granted
    );
    assert_eq!(may(r#"{"data":{"kv/transit/keys/k/rotate":["root"]}}"#, rotate).await, Permission::Granted);
    assert_eq!(may(r#"{"data":{"kv/transit/keys/k/rotate":["deny"]}}"#, rotate).await, Permission::Withheld);
    assert_eq!(may(r#"{"data":{"kv/transit/keys/k/rotate":["read"]}}"#, rotate).await, Permission::Withheld);
    assert_eq!(may(r#"{"data":{"capabilities":["update"]}}"#, rotate).await, Permission::Open);
    let disable = Ability::Disable;
    let deletes =
        r#"{"data":{"kv/transit/keys/k/soft-delete":["deny"],"kv/transit/keys/k":["read","delete"]}}"#;
    assert_eq!(may(deletes, disable).await, Permission::Granted);
    let reads = r#"{"data":{"kv/transit/keys/k/soft-delete":["deny"],"kv/transit/keys/k":["read"]}}"#;
    assert_eq!(may(reads, disable).await, Permission::Withheld);
    assert_eq!(may(r#"{"data":{"kv/transit/keys/k":["read"]}}"#, disable).await, Permission::Open);
}

#[tokio::test]
async fn who_may_not_ask_leaves_it_open_and_an_outage_is_said() {
    let denied = || status(403, JSON, r#"{"errors":["permission denied"]}"#);
    let (_fake, admin) = server(denied).await;
    let (key, call) = (KeyRef("k".into()), CallCtx::new());
    assert_eq!(admin.may(Ability::Rotate, &key, &call).await.unwrap(), Permission::Open);
    let (_fake, admin) = server(|| status(503, JSON, r#"{"errors":["sealed"]}"#)).await;
    assert!(admin.may(Ability::Rotate, &key, &call).await.unwrap_err().is_outage());
}
