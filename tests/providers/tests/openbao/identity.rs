//! Who we are to the server: tokens that live longer because they are prolonged, and service account tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::config::Credential;
use kms::{CallCtx, Kms, Op, Options, RetryPolicy, connect};
use providers::{Bench, Caller, OpenBao};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn once() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

async fn describe(kms: &Arc<dyn Kms>, b: &OpenBao) -> Result<(), kms::KmsError> {
    kms.describe(&b.key(), &CallCtx::new()).await.map(drop)
}

#[tokio::test]
async fn a_token_in_a_file_is_prolonged_while_the_server_allows_it() {
    let Some(b) = OpenBao::start(false).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let token = b.token("data", "5s", true).await;
    std::fs::write(&path, &token).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &once());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(11) {
        describe(&kms, &b).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let logins = b.requests(Op::Authenticate);
    assert!((3..=8).contains(&logins), "looked at once and prolonged at four fifths of its life: {logins}");
}

#[tokio::test]
async fn a_token_that_ended_is_no_denial_and_the_next_one_in_the_file_counts() {
    let Some(b) = OpenBao::start(false).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let token = b.token("data", "1h", false).await;
    std::fs::write(&path, &token).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &once());
    describe(&kms, &b).await.unwrap();
    b.write("auth/token/revoke", json!({"token": token})).await;
    let error = describe(&kms, &b).await.unwrap_err();
    assert_eq!((error.reason(), error.is_refusal()), ("CredentialRejected", false), "{error}");
    std::fs::write(&path, b.secret(Caller::Data)).unwrap();
    describe(&kms, &b).await.unwrap();
}

#[tokio::test]
async fn a_wrong_secret_id_is_said_so_and_not_tried_again_and_again() {
    let Some(b) = OpenBao::start(false).await else { return };
    let config = b.config(Credential::AppRole {
        mount: "approle".into(),
        role_id: "data".into(),
        secret_id_path: "/not/read".into(),
    });
    let kms = kms::connect_with_secret(&config, "wrong".into(), &once()).unwrap();
    for _ in 0..5 {
        let error = describe(&kms, &b).await.unwrap_err();
        assert_eq!((error.reason(), error.retryable()), ("CredentialRejected", false), "{error}");
    }
    assert_eq!(b.requests(Op::Authenticate), 1);
}

/// An API server that knows one service account, by one token, for one audience.
async fn token_reviews(jwt: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"}\n") && !asked.ends_with(b"}") {
                if stream.read_buf(&mut asked).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            let asked = String::from_utf8_lossy(&asked).into_owned();
            let known = asked.contains("/tokenreviews") && asked.contains(&jwt);
            let user = json!({"username": "system:serviceaccount:shop:default", "uid": "u-1", "groups": []});
            let status = json!({"authenticated": known, "user": user, "audiences": ["openbao"]});
            let body =
                json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status});
            let body = body.to_string();
            let head = "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Type: application/json";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    at
}

/// A token of the form that a service account's has; nobody but the API server checks its signature.
fn service_account_token(signature: &str) -> String {
    let account = json!({"name": "default", "uid": "u-1"});
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "aud": ["openbao"],
        "nbf": 1_700_000_000_u64,
        "exp": 4_102_444_800_u64,
        "sub": "system:serviceaccount:shop:default",
        "kubernetes.io": {"namespace": "shop", "serviceaccount": account},
    });
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", encode(r#"{"alg":"RS256"}"#), encode(&claims.to_string()), encode(signature))
}

#[tokio::test]
async fn a_service_account_token_is_all_that_a_pod_needs() {
    let Some(b) = OpenBao::start(false).await else { return };
    let api = token_reviews(service_account_token("right")).await;
    b.write("sys/auth/kubernetes", json!({"type": "kubernetes"})).await;
    let host = json!({
        "kubernetes_host": format!("http://{api}"),
        "kubernetes_ca_cert": providers::authority_pem(),
        "disable_local_ca_jwt": true,
    });
    b.write("auth/kubernetes/config", host).await;
    let role = json!({
        "bound_service_account_names": "default",
        "bound_service_account_namespaces": "shop",
        "audience": "openbao",
        "token_policies": "data",
        "token_ttl": "1h",
    });
    b.write("auth/kubernetes/role/shop", role).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let config = b.config(Credential::Kubernetes {
        mount: "kubernetes".into(),
        role: "shop".into(),
        token_path: path.to_str().unwrap().into(),
    });
    let kms = connect(&config, &once()).unwrap();
    std::fs::write(&path, service_account_token("wrong")).unwrap();
    assert_eq!(describe(&kms, &b).await.unwrap_err().reason(), "CredentialRejected");
    std::fs::write(&path, service_account_token("right")).unwrap();
    describe(&kms, &b).await.unwrap();
    b.reset_requests();
    describe(&kms, &b).await.unwrap();
    assert_eq!(b.requests(Op::Authenticate), 0, "the token serves on");
    let revoke = "sys/leases/revoke-prefix/auth/kubernetes/login";
    b.server.done(Method::PUT, &b.namespace, revoke, Some(json!({"sync": true}))).await;
    describe(&kms, &b).await.unwrap();
    assert_eq!(b.requests(Op::Authenticate), 1);
}

#[tokio::test]
async fn a_token_that_was_replaced_in_its_file_is_used_no_more() {
    let Some(b) = OpenBao::start(false).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let (old, new) = (b.token("data", "1h", true).await, b.token("data", "1h", true).await);
    std::fs::write(&path, &old).unwrap();
    let kms = b.connect_by_file(path.to_str().unwrap(), &once());
    describe(&kms, &b).await.unwrap();
    std::fs::write(&path, &new).unwrap();
    let began = Instant::now();
    while b.last_token() != new {
        assert!(began.elapsed() < Duration::from_secs(20), "the old one serves on");
        tokio::time::sleep(Duration::from_millis(100)).await;
        describe(&kms, &b).await.unwrap();
    }
}
