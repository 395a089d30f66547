//! Access keys: from a file, from STS, and what STS says when it gives none.

use std::time::Duration;

use secrecy::SecretString;

use super::fixture::*;
use crate::call::{CallCtx, Op};
use crate::connect::connect_with_secret;
use crate::error::KmsError;
use crate::http::fake::{Fake, Say, bare, ok, status};

async fn describe(kms: &std::sync::Arc<dyn crate::Kms>) -> Result<(), KmsError> {
    kms.describe(&key(), &CallCtx::new()).await.map(drop)
}

#[tokio::test]
async fn a_role_is_taken_with_the_token_and_its_session_signs() {
    let fake = Fake::raw(usual).await;
    let (kms, call) = (kms_of_role(&fake), CallCtx::new());
    kms.describe(&key(), &call).await.unwrap();
    let requests = fake.requests();
    assert_eq!(
        requests[0].body,
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fshop\
         &RoleSessionName=cofferdam&DurationSeconds=3600&WebIdentityToken=eyJ-a-service-account-token"
    );
    assert_eq!(requests[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(requests[0].header("authorization"), None, "nobody signs it");
    assert!(requests[0].header("user-agent").unwrap().ends_with(&call.correlation_id.to_string()));
    assert_eq!(requests[1].header("x-amz-security-token"), Some("session-token=="));
    assert!(requests[1].header("authorization").unwrap().contains("Credential=ASIASESSION/"));
}

#[tokio::test]
async fn sts_rejects_a_token_in_its_own_words_only() {
    let unseen = "Couldn't retrieve verification key from your identity provider";
    let rows: Vec<(Say, &str)> = vec![
        (sts_refuses(400, "InvalidIdentityToken", "No OpenIDConnect provider found"), "CredentialRejected"),
        (sts_refuses(400, "ExpiredTokenException", "Token expired"), "CredentialRejected"),
        (sts_refuses(403, "AccessDenied", "Not authorized"), "CredentialRejected"),
        (sts_refuses(403, "IDPRejectedClaim", "no"), "CredentialRejected"),
        (sts_refuses(400, "InvalidIdentityToken", unseen), "KmsServerError"),
        (sts_refuses(400, "IDPCommunicationError", "no"), "KmsServerError"),
        (sts_refuses(400, "Throttling", "Rate exceeded"), "KmsThrottled"),
        (sts_refuses(503, "ServiceUnavailable", "no"), "KmsServerError"),
        (status(403, "text/html", "<html><Code>AccessDenied</Code></html>"), "KmsAnswerUnusable"),
        (status(400, "application/json", r#"{"Error":{"Code":"AccessDenied"}}"#), "KmsAnswerUnusable"),
        (status(307, "text/xml", "<Code>AccessDenied</Code>"), "KmsAnswerUnusable"),
        (status(400, "text/xml", "<Code>two</Code><Code>AccessDenied</Code>"), "KmsAnswerUnusable"),
        (ok("{}"), "KmsAnswerUnusable"),
        (status(200, "text/xml", "<AccessKeyId>A</AccessKeyId>"), "KmsAnswerUnusable"),
        (session("1999-01-01T00:00:00Z"), "KmsAnswerUnusable"),
        (session("soon"), "KmsAnswerUnusable"),
    ];
    for (say, expected) in rows {
        let shown = format!("{say:?}");
        let fake = Fake::raw(move |_| say.clone()).await;
        let error = describe(&kms_of_role(&fake)).await.unwrap_err();
        assert_eq!((error.reason(), error.context.op), (expected, Op::Authenticate), "{shown}: {error}");
        assert_eq!(error.is_outage(), expected != "CredentialRejected", "{shown}");
        assert!(!error.is_refusal());
    }
}

#[tokio::test]
async fn a_session_lives_as_long_as_the_one_says_who_gave_it() {
    // By the clock of STS it ends in four seconds; by ours it ended long ago.
    let short = |_: &_| {
        let Say::Answer { status, kind, body, .. } = session("2001-01-01T00:00:04Z") else { unreachable!() };
        let headers = vec![("Date", "Mon, 01 Jan 2001 00:00:00 GMT".to_owned())];
        Say::Answer { status, kind, headers, body }
    };
    let fake =
        Fake::raw(move |request| if action(request) == "STS" { short(request) } else { usual(request) })
            .await;
    let kms = kms_of_role(&fake);
    let logins = || fake.requests().iter().filter(|request| action(request) == "STS").count();
    for _ in 0..3 {
        describe(&kms).await.unwrap();
    }
    assert_eq!(logins(), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    describe(&kms).await.unwrap();
    assert_eq!(logins(), 2);
}

#[tokio::test]
async fn keys_that_aws_does_not_know_are_a_rejected_credential_and_no_denial() {
    for code in ["UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"] {
        let fake = Fake::raw(move |_| refused(code)).await;
        let error = describe(&kms(&fake)).await.unwrap_err();
        assert_eq!((error.reason(), error.is_refusal()), ("CredentialRejected", false), "{code}: {error}");
        assert_eq!(fake.requests().len(), 2, "{code}: asked again with what lies in the file now");
        assert_eq!(error.context.code.as_deref(), Some(code));
    }
}

#[tokio::test]
async fn a_session_that_was_revoked_is_replaced_once() {
    let fake = Fake::raw(usual).await;
    let kms = kms_of_role(&fake);
    fake.rescript(
        |request| if action(request) == "STS" { usual(request) } else { refused("AccessDeniedException") },
    );
    let error = describe(&kms).await.unwrap_err();
    assert_eq!((error.reason(), error.context.http_status), ("KeyAccessDenied", Some(400)), "{error}");
    let asked: Vec<String> = fake.requests().iter().map(action).collect();
    assert_eq!(asked, ["STS", "DescribeKey", "STS", "DescribeKey"]);
}

#[tokio::test]
async fn a_file_that_holds_no_keys_is_said_so_without_a_call() {
    let fake = Fake::raw(|_| unreachable!()).await;
    for text in ["AKIAEXAMPLE:secret", "[other]\naws_access_key_id = A\naws_secret_access_key = b"] {
        let config = config(root_key(&fake), keys_file());
        let kms = connect_with_secret(&config, SecretString::from(text), &bare()).unwrap();
        assert_eq!(describe(&kms).await.unwrap_err().reason(), "CredentialUnreadable");
    }
    assert!(fake.requests().is_empty());
}
