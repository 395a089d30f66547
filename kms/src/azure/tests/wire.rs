//! Golden requests and answers of every operation, and answers that no real vault gives.

use std::time::Duration;

use super::fake::*;
use crate::admin::NewKey;
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::connect::connect_with_secret;
use crate::error::ErrorKind;
use crate::key::{KeyRef, KeyVersion};
use contract::config::{AzureKeyVault, Credential};

/// A vault that does what it is asked; the fake's key is of this type.
fn obeying(kty: &'static str, length: usize) -> impl FnMut(&Request) -> Say + Send + 'static {
    let sealed = if length == 256 { sealed() } else { format!("{}-w", "-_v7".repeat(13)) };
    move |request| match line(request).as_str() {
        "GET /keys/k" => ok(key_body(kty, r#""enabled":true,"created":1700086400"#)),
        line if line.ends_with("/unwrapkey") => result(V1, PLAIN_TEXT),
        line if line.ends_with("/wrapkey") => result(V2, &sealed),
        _ => error(403, "Forbidden", "ForbiddenByRbac"),
    }
}

#[tokio::test]
async fn each_operation_sends_what_the_vendor_documents() {
    let fake = fake(obeying("RSA-HSM", 256)).await;
    let (kms, call) = (kms(&fake), CallCtx::new());

    let made = kms.wrap(&key(), &plain(), &CTX, &call).await.unwrap();
    assert_eq!(asked(&fake), ["GET /keys/k".to_owned(), format!("POST /keys/k/{V2}/wrapkey")]);
    let request = last(&fake);
    assert_eq!(request.line, format!("POST /keys/k/{V2}/wrapkey?api-version=7.4"));
    assert_eq!(request.body, format!(r#"{{"alg":"RSA-OAEP-256","value":"{PLAIN_TEXT}"}}"#));
    for (name, value) in [
        ("authorization", "Bearer eyJ.token"),
        ("x-ms-client-request-id", call.correlation_id.to_string().as_str()),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(made.version, Some(KeyVersion(V2.into())));
    assert_eq!(
        (made.blob[..4].to_vec(), made.blob[18..].to_vec()),
        (vec![1, 1, 0xf0, 0xe1], vec![0xfb; 256])
    );

    let (made, wrapped_too) = kms.generate(&key(), &CTX, &call).await.unwrap();
    assert!(!last(&fake).body.contains(PLAIN_TEXT), "a key of its own");
    assert_ne!(made.expose(), &PLAIN);
    assert_eq!(wrapped_too.blob.len(), 18 + 256);

    let opened = kms.unwrap(&key(), &wrapped(), &CTX, &call).await.unwrap();
    assert_eq!((opened.key.expose(), opened.used), (&PLAIN, Some(KeyVersion(V1.into()))));
    assert_eq!(line(&last(&fake)), format!("POST /keys/k/{V1}/unwrapkey"));
    assert_eq!(last(&fake).body, format!(r#"{{"alg":"RSA-OAEP-256","value":"{}"}}"#, sealed()));

    let before = asked(&fake).len();
    let moved = kms.rewrap(&key(), &wrapped(), &CTX, &call).await.unwrap();
    assert_eq!(moved.version, Some(KeyVersion(V2.into())));
    assert_eq!(
        asked(&fake)[before..],
        [format!("POST /keys/k/{V1}/unwrapkey"), "GET /keys/k".into(), format!("POST /keys/k/{V2}/wrapkey")]
    );
    assert_eq!(fake.requests().iter().filter(|request| is_login(request)).count(), 1);
}

#[tokio::test]
async fn the_algorithm_follows_from_the_type_of_the_key_and_stands_in_the_blob() {
    let fake = fake(obeying("oct-HSM", 40)).await;
    let (kms, call) = (kms(&fake), CallCtx::new());
    let made = kms.wrap(&key(), &plain(), &CTX, &call).await.unwrap();
    assert_eq!(last(&fake).body, format!(r#"{{"alg":"A256KW","value":"{PLAIN_TEXT}"}}"#));
    assert_eq!((made.blob[..2].to_vec(), made.blob.len()), (vec![1, 2], 18 + 40));
    kms.unwrap(&key(), &wrapped(), &CTX, &call).await.unwrap();
    assert!(last(&fake).body.contains("RSA-OAEP-256"), "of the time when the key was another one");
}

#[tokio::test]
async fn the_owners_operations_send_what_the_vendor_documents() {
    let policy = r#"{"lifetimeActions":[{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],"attributes":{}}"#;
    let listed =
        format!(r#"{{"value":[{{"kid":"https://v/keys/k/{V1}"}},{{"kid":"https://v/keys/k/{V2}"}}]}}"#);
    let fake = fake(move |request| match line(request).as_str() {
        "GET /keys/new" | "GET /deletedkeys/new" => error(404, "KeyNotFound", ""),
        "GET /keys/k/rotationpolicy" => ok(policy),
        "GET /keys/k/versions?maxresults=25" => ok(listed.clone()),
        _ => ok(key_body("RSA", "")),
    })
    .await;
    let (owner, call) = (admin(&fake), CallCtx::new());
    let sent = |wanted: &str, body: &str| {
        let last = last(&fake);
        assert_eq!((line(&last).as_str(), last.body.as_str()), (wanted, body));
    };
    let new = NewKey { name: "new".into(), description: Some("d".into()) };
    assert_eq!(owner.create(&new, &call).await.unwrap(), KeyRef("new".into()));
    let body =
        r#"{"kty":"RSA-HSM","key_size":3072,"key_ops":["wrapKey","unwrapKey"],"tags":{"description":"d"}}"#;
    sent("POST /keys/new/create", body);
    owner.rotate(&key(), &call).await.unwrap();
    sent("POST /keys/k/rotate", "");
    let before = asked(&fake).len();
    owner.set_enabled(&key(), false, &call).await.unwrap();
    let patched = |from: usize| -> Vec<String> {
        asked(&fake)[from..].iter().filter(|line| line.starts_with("PATCH")).cloned().collect()
    };
    assert_eq!(patched(before), [format!("PATCH /keys/k/{V2}"), format!("PATCH /keys/k/{V1}")]);
    assert_eq!(last(&fake).body, r#"{"attributes":{"enabled":false}}"#);
    let before = asked(&fake).len();
    owner.set_enabled(&key(), true, &call).await.unwrap();
    assert_eq!(patched(before), [format!("PATCH /keys/k/{V1}"), format!("PATCH /keys/k/{V2}")]);
    assert_eq!(last(&fake).body, r#"{"attributes":{"enabled":true}}"#);
    owner.set_auto_rotation(&key(), Some(Duration::from_hours(720)), &call).await.unwrap();
    let notify = r#"{"action":{"type":"Notify"},"trigger":{"timeBeforeExpiry":"P30D"}}"#;
    let rotate = r#"{"action":{"type":"Rotate"},"trigger":{"timeAfterCreate":"P30D"}}"#;
    let body = format!(r#"{{"lifetimeActions":[{notify},{rotate}],"attributes":{{}}}}"#);
    sent("PUT /keys/k/rotationpolicy", &body);
    owner.set_auto_rotation(&key(), None, &call).await.unwrap();
    sent("PUT /keys/k/rotationpolicy", &format!(r#"{{"lifetimeActions":[{notify}],"attributes":{{}}}}"#));
    owner.delete(&key(), &call).await.unwrap();
    sent("DELETE /keys/k", "");
    owner.restore(&key(), &call).await.unwrap();
    sent("POST /deletedkeys/k/recover", "");

    let there = NewKey { name: "k".into(), description: None };
    let error = owner.create(&there, &call).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Config(_)), "it would get another version: {error}");
}

#[tokio::test]
async fn an_answer_about_another_version_or_in_another_alphabet_is_unusable() {
    let short = sealed()[4..].to_owned();
    let answers = [
        (result(V1, &sealed()), "its own version"),
        (result("x", &sealed()), "no version"),
        (result(V2, &short), "a wrong length"),
        (result(V2, &sealed().replace('-', "+").replace('_', "/")), "plain base64"),
        (ok(format!(r#"{{"kid":"https://v/keys/other/{V2}","value":"{}"}}"#, sealed())), "another key"),
        (ok("{}"), "nothing"),
        (status(202, JSON, "{}"), "not done yet"),
    ];
    for (answer, what) in answers {
        let fake =
            fake(
                move |request| {
                    if line(request) == "GET /keys/k" { ok(key_body("RSA", "")) } else { answer.clone() }
                },
            )
            .await;
        let error = kms(&fake).wrap(&key(), &plain(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{what}: {error}");
        assert!(error.is_outage() && !error.is_refusal(), "{what}");
    }
    for (value, what) in [("AAAA", "three bytes"), ("//79", "plain base64"), ("", "nothing")] {
        let fake = fake(move |_| result(V1, value)).await;
        let error = kms(&fake).unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{what}: {error}");
    }
}

#[tokio::test]
async fn what_cannot_work_is_a_wrong_configuration() {
    let fake = fake(|_| unreachable!()).await;
    let right = here(&fake);
    let of = |root_key: AzureKeyVault, credential: Credential| {
        connect_with_secret(&config(root_key, credential), secret(), &bare()).err()
    };
    let at = format!("http://{}", fake.at);
    for wrong in ["", "../k", "a_b", "a b", "k?x", "k#", ".", "a/b", &"a".repeat(128)] {
        let named = AzureKeyVault { key: wrong.into(), ..root_key(&at) };
        assert_eq!(of(named, client_secret()), Some(ConfigError::Field { field: "key" }), "{wrong:?}");
    }
    for wrong in ["", "../t", "a b", "t?x"] {
        let credential = |tenant: &str, client: &str| Credential::AzureFederated {
            tenant_id: tenant.into(),
            client_id: client.into(),
            token_path: "/t".into(),
        };
        for (field, credential) in
            [("credential.tenantId", credential(wrong, "c")), ("credential.clientId", credential("t", wrong))]
        {
            assert_eq!(of(root_key(&at), credential), Some(ConfigError::Field { field }), "{wrong:?}");
        }
    }
    let vault = |vault: &str| AzureKeyVault { vault: vault.into(), ..root_key(&at) };
    assert!(matches!(of(vault("https://kv.example.net"), client_secret()), Some(ConfigError::Host { .. })));
    assert!(matches!(
        of(vault("https://kv.vault.azure.net/keys"), client_secret()),
        Some(ConfigError::Endpoint { .. })
    ));
    let token = Credential::TokenFile { path: "/t".into() };
    assert_eq!(of(root_key(&at), token), Some(ConfigError::Credential));
    assert!(connect_with_secret(&right, secret(), &bare()).is_ok());
    assert!(fake.requests().is_empty());
}
