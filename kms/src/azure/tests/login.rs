//! Entra ID: both kinds of credential, challenges, and denials.

use super::fake::*;
use crate::call::CallCtx;
use crate::config::ProviderConfig;
use crate::connect::connect;
use crate::error::{ErrorKind, KmsError, Outage};
use crate::service::Kms;
use contract::config::Credential;
use std::sync::Arc;

fn answer() -> Say {
    ok(key_body("RSA", ""))
}

async fn describe(kms: &Arc<dyn Kms>) -> Result<(), KmsError> {
    kms.describe(&key(), &CallCtx::new()).await.map(drop)
}

#[tokio::test]
async fn a_client_secret_is_exchanged_as_a_form_for_the_vaults_audience() {
    let fake = fake(|_| answer()).await;
    describe(&kms(&fake)).await.unwrap();
    let login = &fake.requests()[0];
    assert_eq!(login.line, "POST /tenant-1/oauth2/v2.0/token");
    assert_eq!(login.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        login.body,
        "grant_type=client_credentials&client_id=client-1&scope=https%3A%2F%2Fvault.azure.net%2F.default&\
         client_secret=client-secret%2Bthat%26nobody%3Dmay+see"
    );
    assert_eq!(login.header("authorization"), None);
    assert!(login.header("client-request-id").is_some());
}

#[tokio::test]
async fn a_service_account_token_is_all_that_a_pod_needs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "e.y.J\n").unwrap();
    let fake = fake(|_| answer()).await;
    let credential = Credential::AzureFederated {
        tenant_id: "tenant-1".into(),
        client_id: "client-1".into(),
        token_path: path.to_str().unwrap().into(),
    };
    let config = ProviderConfig { credential, ..here(&fake) };
    let kms = connect(&config, &bare()).unwrap();
    describe(&kms).await.unwrap();
    assert_eq!(
        fake.requests()[0].body,
        "grant_type=client_credentials&client_id=client-1&scope=https%3A%2F%2Fvault.azure.net%2F.default&\
         client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&\
         client_assertion=e.y.J"
    );
}

/// What becomes of an answer to the login.
async fn login(say: Say) -> KmsError {
    let fake = Fake::raw(move |_| say.clone()).await;
    let error = describe(&kms(&fake)).await.unwrap_err();
    assert_eq!(fake.requests().len(), 1);
    error
}

#[tokio::test]
async fn a_credential_is_rejected_in_entras_own_words_only() {
    let rejected =
        r#"{"error":"invalid_client","error_description":"AADSTS7000215: secret","error_codes":[7000215]}"#;
    let error = login(status(401, JSON, rejected)).await;
    assert_eq!(
        (&error.kind, error.context.code.as_deref()),
        (&ErrorKind::CredentialRejected, Some("AADSTS7000215"))
    );
    assert!(!error.is_refusal() && !error.retryable() && !error.to_string().contains("AADSTS7000215: "));
    let error = login(status(400, JSON, r#"{"error":"invalid_scope"}"#)).await;
    assert_eq!(
        (&error.kind, error.context.code.as_deref()),
        (&ErrorKind::CredentialRejected, Some("invalid_scope"))
    );
    let outage = ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None };
    for passing in [
        status(400, JSON, r#"{"error":"temporarily_unavailable","error_codes":[90033]}"#),
        status(503, JSON, rejected),
    ] {
        assert_eq!(login(passing).await.kind, outage);
    }
    for other in [
        status(401, "text/html", rejected),
        status(401, JSON, "{}"),
        status(302, JSON, rejected),
        ok("{}"),
        ok(r#"{"access_token":"t"}"#),
        ok(r#"{"access_token":"a b","expires_in":60}"#),
        ok(r#"{"access_token":"t","expires_in":0}"#),
        status(200, "text/html", TOKEN),
        status(429, JSON, ""),
    ] {
        let error = login(other.clone()).await;
        assert!(error.is_outage() && !error.is_refusal(), "{other:?}: {error}");
    }
}

fn challenge(at: &str) -> Say {
    let header = format!(r#"Bearer authorization="http://{at}/evil", resource="https://evil.example""#);
    let body = error_body("Unauthorized", "");
    Say::Answer { status: 401, kind: JSON, headers: vec![("WWW-Authenticate", header)], body }
}

#[tokio::test]
async fn a_challenge_costs_one_new_token_and_leads_nowhere() {
    let elsewhere = Fake::raw(|_| unreachable!()).await;
    let at = elsewhere.at.to_string();
    let fake = fake(move |_| challenge(&at)).await;
    let error = describe(&kms(&fake)).await.unwrap_err();
    assert_eq!(
        (&error.kind, error.context.http_status),
        (&ErrorKind::CredentialRejected, Some(401)),
        "{error}"
    );
    assert_eq!(error.context.code.as_deref(), Some("Unauthorized"));
    assert!(!error.is_refusal(), "nothing was said of the key");
    let logins: Vec<Request> = fake.requests().into_iter().filter(is_login).collect();
    assert_eq!(logins.len(), 2);
    assert!(logins.iter().all(|login| login.body.contains("vault.azure.net")), "the audience stays");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_token_that_ended_is_replaced_once() {
    let mut number = 0;
    let fake = fake(move |_| {
        number += 1;
        if number == 1 { challenge("x") } else { answer() }
    })
    .await;
    describe(&kms(&fake)).await.unwrap();
    assert_eq!(fake.requests().iter().filter(|request| is_login(request)).count(), 2);
}

#[tokio::test]
async fn a_shut_door_is_an_outage_and_no_denial() {
    for (inner, reason) in [
        ("ForbiddenByFirewall", "KmsUnreachable"),
        ("ForbiddenByConnection", "KmsUnreachable"),
        ("ForbiddenByRbac", "KeyAccessDenied"),
        ("ForbiddenByPolicy", "KeyAccessDenied"),
        ("", "KeyAccessDenied"),
    ] {
        let fake = fake(move |_| error(403, "Forbidden", inner)).await;
        let failed = describe(&kms(&fake)).await.unwrap_err();
        assert_eq!((failed.reason(), failed.is_outage()), (reason, reason == "KmsUnreachable"), "{inner}");
        let shown = if inner.is_empty() { "Forbidden" } else { inner };
        assert_eq!(failed.context.code.as_deref(), Some(shown));
        let logins = fake.requests().iter().filter(|request| is_login(request)).count();
        assert_eq!(logins, if failed.is_outage() { 1 } else { 2 }, "{inner}: a denial is asked twice");
    }
}
