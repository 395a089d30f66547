//! Who we are to AWS: roles whose trust is evaluated, access keys that are replaced, and clocks that both sides mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::config::Credential;
use kms::{CallCtx, Kms, KmsError, Op, Options, RetryPolicy, SecretString, connect, connect_with_secret};
use providers::aws::{keys_file, role_arn, token, trusted_token};
use providers::{Aws, Bench, Caller};

pub fn once() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

async fn describe(kms: &Arc<dyn Kms>, b: &Aws) -> Result<(), KmsError> {
    kms.describe(&b.key(), &CallCtx::new()).await.map(drop)
}

fn role(name: &str, path: &str) -> Credential {
    Credential::AwsWebIdentity { role_arn: role_arn(name), token_path: path.into() }
}

#[tokio::test]
async fn a_role_is_given_only_to_the_service_account_that_it_trusts() {
    let b = Aws::start(false).await.unwrap();
    let right = "system:serviceaccount:shop:default";
    for (name, token) in [
        ("data", token("sts.amazonaws.com", "system:serviceaccount:other:default")),
        ("data", token("cofferdam", right)),
        ("unknown", trusted_token()),
        ("data", "eyJ.not.atoken".into()),
    ] {
        let kms = connect_with_secret(&b.config(role(name, "/not/read")), SecretString::from(token), &once());
        let error = describe(&kms.unwrap(), &b).await.unwrap_err();
        assert_eq!((error.reason(), error.is_refusal()), ("CredentialRejected", false), "{name}: {error}");
        assert_eq!(error.context.op, Op::Authenticate);
    }
    let kms = connect_with_secret(
        &b.config(role("data", "/not/read")),
        SecretString::from(trusted_token()),
        &once(),
    );
    describe(&kms.unwrap(), &b).await.unwrap();
}

#[tokio::test]
async fn a_service_account_token_is_read_again_for_each_login() {
    let b = Aws::start(false).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, token("cofferdam", "nobody")).unwrap();
    let kms = connect(&b.config(role("data", path.to_str().unwrap())), &once()).unwrap();
    assert_eq!(describe(&kms, &b).await.unwrap_err().reason(), "CredentialRejected");
    std::fs::write(&path, trusted_token()).unwrap();
    describe(&kms, &b).await.unwrap();
    b.reset_requests();
    describe(&kms, &b).await.unwrap();
    assert_eq!(b.requests(Op::Authenticate), 0, "the session serves on");
    b.advance(Duration::from_hours(2)).await;
    describe(&kms, &b).await.unwrap();
    assert_eq!(b.requests(Op::Authenticate), 1, "it ended for AWS");
}

#[tokio::test]
async fn access_keys_that_were_replaced_in_their_file_are_used_no_more() {
    let b = Aws::start(false).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials");
    std::fs::write(&path, keys_file("owner")).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &once());
    describe(&kms, &b).await.unwrap();
    std::fs::write(&path, keys_file("data")).unwrap();
    b.permit(Caller::Data, false).await;
    let began = Instant::now();
    while describe(&kms, &b).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "the old ones serve on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_wrong_secret_is_a_rejected_credential_and_no_denial() {
    let b = Aws::start(false).await.unwrap();
    for wrong in [
        keys_file("data").replace("secret-access-key-of-data", "another-secret-of-data"),
        keys_file("data").replace("AKIADATA", "AKIAUNKNOWN"),
        format!("{}aws_session_token = made-up\n", keys_file("data")),
    ] {
        let config = b.config(Credential::AwsKeysFile { path: "/not/read".into() });
        let kms = connect_with_secret(&config, SecretString::from(wrong), &once()).unwrap();
        let error = describe(&kms, &b).await.unwrap_err();
        assert_eq!((error.reason(), error.is_refusal()), ("CredentialRejected", false), "{error}");
        assert_eq!(b.requests(Op::Authenticate), 0, "access keys are shown to nobody");
    }
}
