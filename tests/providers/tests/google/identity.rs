//! Who we are to Google: keys of service accounts, and service accounts of a cluster.

use std::path::Path;
use std::sync::Arc;

use contract::config::Credential;
use emulator_google::{Cluster, VIEWER, WORKLOAD_IDENTITY_USER};
use kms::{CallCtx, Kms, KmsError, Op, SecretString, connect, connect_with_secret};
use providers::google::{account_key, email, key};
use providers::{Bench, Google};

use crate::once;

const PROVIDER: &str = "projects/4711/locations/global/workloadIdentityPools/clusters/providers/main";
const SUBJECT: &str = "system:serviceaccount:shop:default";
const MEMBER: &str = "principal://iam.googleapis.com/projects/4711/locations/global/workloadIdentityPools/clusters/subject/\
                      system:serviceaccount:shop:default";

/// A service that believes a cluster, and that cluster.
async fn federated() -> (Google, Cluster) {
    let b = Google::start(false).await.unwrap();
    let cluster = Cluster::new("https://cluster.example");
    b.server.world().believe(cluster.pool(PROVIDER, "cloudkms"));
    (b, cluster)
}

fn connection(b: &Google, path: &Path, account: Option<&str>) -> Arc<dyn Kms> {
    let config = b.config(Credential::GoogleWorkloadIdentity {
        audience: format!("//iam.googleapis.com/{PROVIDER}"),
        service_account: account.map(email),
        token_path: path.to_str().unwrap().into(),
    });
    connect(&config, &once()).unwrap()
}

fn now(b: &Google) -> i64 {
    b.server.world().now()
}

async fn describe(kms: &Arc<dyn Kms>, b: &Google) -> Result<(), KmsError> {
    kms.describe(&b.key(), &CallCtx::new()).await.map(drop)
}

fn is_rejected(error: &KmsError) -> bool {
    error.reason() == "CredentialRejected" && !error.is_refusal() && !error.is_outage()
}

#[tokio::test]
async fn a_service_account_token_is_all_that_a_pod_needs() {
    let (b, cluster) = federated().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let kms = connection(&b, &path, None);
    for (token, what) in [
        (cluster.token(SUBJECT, "another", now(&b) + 3600), "for another service"),
        (cluster.token(SUBJECT, "cloudkms", now(&b) - 1), "ended"),
        (
            Cluster::new("https://cluster.example").token(SUBJECT, "cloudkms", now(&b) + 3600),
            "of another key",
        ),
        (
            Cluster::new("https://other.example").token(SUBJECT, "cloudkms", now(&b) + 3600),
            "of another cluster",
        ),
    ] {
        std::fs::write(&path, token).unwrap();
        let error = describe(&kms, &b).await.unwrap_err();
        assert!(is_rejected(&error), "{what}: {error}");
        assert_eq!(error.context.code.as_deref(), Some("invalid_grant"), "{what}");
    }
    std::fs::write(&path, cluster.token(SUBJECT, "cloudkms", now(&b) + 3600)).unwrap();
    assert_eq!(describe(&kms, &b).await.unwrap_err().reason(), "KeyAccessDenied", "no role yet");
    b.server.world().grant(&key("storage"), VIEWER, MEMBER);
    describe(&kms, &b).await.unwrap();
    b.reset_requests();
    describe(&kms, &b).await.unwrap();
    assert_eq!(b.requests(Op::Authenticate), 0, "the token serves on");
}

#[tokio::test]
async fn a_pod_can_speak_for_a_service_account_if_it_may() {
    let (b, cluster) = federated().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, cluster.token(SUBJECT, "cloudkms", now(&b) + 3600)).unwrap();
    let kms = connection(&b, &path, Some("data"));
    let error = describe(&kms, &b).await.unwrap_err();
    assert!(is_rejected(&error), "{error}");
    assert_eq!(error.context.code.as_deref(), Some("IAM_PERMISSION_DENIED"));

    let account = format!("serviceAccounts/{}", email("data"));
    b.server.world().grant(&account, WORKLOAD_IDENTITY_USER, MEMBER);
    let other = dir.path().join("other");
    std::fs::write(&other, cluster.token("system:serviceaccount:shop:other", "cloudkms", now(&b) + 3600))
        .unwrap();
    assert!(is_rejected(&describe(&connection(&b, &other, Some("data")), &b).await.unwrap_err()));
    let kms = connection(&b, &path, Some("data"));
    b.reset_requests();
    let (plain, wrapped) = kms.generate(&b.key(), &[1; 32], &CallCtx::new()).await.unwrap();
    let opened = kms.unwrap(&b.key(), &wrapped, &[1; 32], &CallCtx::new()).await.unwrap();
    assert_eq!(opened.key.expose(), plain.expose());
    assert_eq!(b.requests(Op::Authenticate), 2, "one token for the cluster's, one for the account");
    // An hour and more later, with a token that the cluster renewed.
    b.server.world().advance(2 * 3600);
    std::fs::write(&path, cluster.token(SUBJECT, "cloudkms", now(&b) + 3600)).unwrap();
    describe(&kms, &b).await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_account_is_rejected_and_not_tried_again_and_again() {
    let b = Google::start(false).await.unwrap();
    let config = b.config(Credential::GoogleKeyFile { path: "/not/read".into() });
    let forged = account_key("nobody").file(&email("data"), "https://elsewhere.example/token");
    let kms = connect_with_secret(&config, SecretString::from(forged), &once()).unwrap();
    for _ in 0..5 {
        let error = describe(&kms, &b).await.unwrap_err();
        assert!(is_rejected(&error), "{error}");
        assert_eq!(error.context.code.as_deref(), Some("invalid_grant"));
    }
    assert_eq!(b.requests(Op::Authenticate), 1);
    for wrong in [
        "",
        "{}",
        "not json",
        r#"{"type":"authorized_user","client_email":"a","private_key_id":"b","private_key":"c"}"#,
    ] {
        let kms = connect_with_secret(&config, SecretString::from(wrong), &once()).unwrap();
        assert_eq!(describe(&kms, &b).await.unwrap_err().reason(), "CredentialUnreadable", "{wrong:?}");
    }
}

#[tokio::test]
async fn a_token_of_ours_is_good_for_keys_alone() {
    let b = Google::start(false).await.unwrap();
    let kms = b.connect(providers::Caller::Data, &once());
    describe(&kms, &b).await.unwrap();
    let account = format!("serviceAccounts/{}", email("owner"));
    b.server.world().grant(&account, WORKLOAD_IDENTITY_USER, &format!("serviceAccount:{}", email("data")));
    let token = b.secrets().into_iter().find(|secret| secret.starts_with("ya29.")).unwrap();
    let url = format!(
        "http://{}/v1/projects/-/serviceAccounts/{}:generateAccessToken",
        b.address(),
        email("owner")
    );
    let body = serde_json::json!({"scope": ["https://www.googleapis.com/auth/cloudkms"]});
    let answer = reqwest::Client::new().post(url).bearer_auth(token).json(&body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403, "whoever finds it cannot become somebody else with it");
}
