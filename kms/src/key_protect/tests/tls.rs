//! Certificates: the wrong one is told apart from an outage, and is never a refusal.

use std::net::{SocketAddr, TcpListener};

use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::fake::*;
use crate::call::CallCtx;
use crate::config::{CaSource, ConfigError, ProviderConfig};
use crate::connect::{Options, connect_with_secret};
use crate::error::KmsError;
use crate::key::KeyInfo;
use contract::config::{Credential, KeyProtect, Provider};

pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server on loopback with a certificate for `name`, valid in the year before `until`.
pub(super) async fn serve(ca: &Ca, name: &str, until: i32) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.signed_by(&key, ca).unwrap();
    let pem = (certificate.pem().into_bytes(), key.serialize_pem().into_bytes());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = RustlsConfig::from_pem(pem.0, pem.1).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let json = [("Content-Type", "application/json")];
    let routes = axum::Router::new()
        .route(
            "/identity/token",
            axum::routing::post(move || async move { (json, r#"{"access_token":"t","expires_in":3600}"#) }),
        )
        .fallback(move || async move { (json, format!(r#"{{"resources":[{{"id":"{KEY}","state":1}}]}}"#)) });
    let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
    tokio::spawn(server.serve(routes.into_make_service()));
    at
}

/// A server that answers what it cannot read as HTTP with a 400 in plain HTTP.
async fn plain_http() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    at
}

pub(super) fn pem(ca: &Ca) -> CaSource {
    CaSource::Pem { pem: ca.pem() }
}

fn config(at: SocketAddr, ca: Option<CaSource>) -> ProviderConfig {
    config_at(&format!("https://{at}"), ca)
}

pub(super) fn config_at(url: &str, ca: Option<CaSource>) -> ProviderConfig {
    let provider = Provider::KeyProtect(KeyProtect::at(url, INSTANCE, KEY));
    let credential = Credential::ApiKeyFile { path: "/not/read".into() };
    ProviderConfig { ca, ..ProviderConfig::new(provider, credential) }
}

async fn describe(at: SocketAddr, ca: Option<CaSource>) -> Result<KeyInfo, KmsError> {
    let kms = connect_with_secret(&config(at, ca), SecretString::from(API_KEY), &bare()).unwrap();
    kms.describe(&key(), &CallCtx::new()).await
}

fn assert_tls_failed(result: Result<KeyInfo, KmsError>, what: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), "TlsFailed", "{what}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(error.is_outage() && !error.is_refusal(), "{what}");
}

#[tokio::test]
async fn a_certificate_is_trusted_only_if_authority_name_and_time_are_right() {
    let (right, wrong) = (ca(), ca());
    let at = serve(&right, "127.0.0.1", 2100).await;
    describe(at, Some(pem(&right))).await.unwrap();
    assert_tls_failed(describe(at, Some(pem(&wrong))).await, "another authority");
    assert_tls_failed(describe(at, None).await, "the system's authorities");

    let other_name = serve(&right, "kms.example", 2100).await;
    assert_tls_failed(describe(other_name, Some(pem(&right))).await, "another name");
    let expired = serve(&right, "127.0.0.1", 2021).await;
    assert_tls_failed(describe(expired, Some(pem(&right))).await, "expired");

    assert_tls_failed(describe(plain_http().await, Some(pem(&right))).await, "no tls at all");
}

#[tokio::test]
async fn a_bundle_may_hold_an_old_and_a_new_authority() {
    let (old, new) = (ca(), ca());
    let bundle = CaSource::Pem { pem: format!("{}{}", old.pem(), new.pem()) };
    for authority in [&old, &new] {
        let at = serve(authority, "127.0.0.1", 2100).await;
        describe(at, Some(bundle.clone())).await.unwrap();
    }
}

#[tokio::test]
async fn a_bundle_in_a_file_is_read_again_when_it_changes() {
    let (old, new) = (ca(), ca());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.crt");
    let at = serve(&new, "127.0.0.1", 2100).await;
    let source = CaSource::File { path: path.to_str().unwrap().into() };
    let kms =
        connect_with_secret(&config(at, Some(source)), SecretString::from(API_KEY), &Options::default());
    let kms = kms.unwrap();
    // Long enough for a handshake on a busy machine: what is looked at is the reason, not the time.
    let call = || CallCtx::within(std::time::Duration::from_secs(3));

    let error = kms.describe(&key(), &call()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_refusal()), ("CaUnreadable", false), "the file is not there yet");
    std::fs::write(&path, old.pem()).unwrap();
    let error = kms.describe(&key(), &call()).await.unwrap_err();
    assert_eq!(error.reason(), "TlsFailed");
    std::fs::write(&path, new.pem()).unwrap();
    let until = Instant::now() + std::time::Duration::from_secs(15);
    while let Err(error) = kms.describe(&key(), &CallCtx::new()).await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_unusable_bundle_is_a_configuration_error() {
    let at: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "no certificate", garbled] {
        let config = config(at, Some(CaSource::Pem { pem: text.into() }));
        let made = connect_with_secret(&config, SecretString::from(API_KEY), &bare());
        assert_eq!(made.err(), Some(ConfigError::Ca), "{text:?}");
    }
}
