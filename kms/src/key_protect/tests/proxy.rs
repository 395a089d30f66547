//! A proxy: it carries what it cannot read, and its troubles are outages.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fake::*;
use super::tls::{Ca, ca, config_at, pem, serve};
use crate::call::CallCtx;
use crate::config::ProviderConfig;
use crate::connect::connect_with_secret;
use crate::error::KmsError;
use crate::key::KeyInfo;

/// A name that nobody but the proxy can resolve.
const NAME: &str = "kms.example";

/// A proxy that answers `CONNECT` with a status, and what passed it from its clients.
struct Proxy {
    at: SocketAddr,
    passed: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    async fn start(status: u16, service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let passed = Arc::<Mutex<Vec<u8>>>::default();
        let seen = Arc::clone(&passed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, status, service, Arc::clone(&seen)));
            }
        });
        Self { at, passed }
    }

    fn passed(&self) -> String {
        String::from_utf8_lossy(&self.passed.lock().unwrap()).into_owned()
    }
}

async fn carry(mut client: TcpStream, status: u16, service: SocketAddr, passed: Arc<Mutex<Vec<u8>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    passed.lock().unwrap().extend_from_slice(&head);
    let _ = client.write_all(format!("HTTP/1.1 {status} Said\r\n\r\n").as_bytes()).await;
    if status != 200 {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_service, mut to_service) = TcpStream::connect(service).await.unwrap().into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_service, &mut to_client).await });
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        passed.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to_service.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn describe(authority: &Ca, proxy: Option<SocketAddr>) -> Result<KeyInfo, KmsError> {
    let config = config_at(&format!("https://{NAME}"), Some(pem(authority)));
    let config = ProviderConfig { proxy: proxy.map(|at| format!("http://{at}")), ..config };
    let kms = connect_with_secret(&config, SecretString::from(API_KEY), &bare()).unwrap();
    kms.describe(&key(), &CallCtx::new()).await
}

#[tokio::test]
async fn a_proxy_carries_what_it_cannot_read() {
    let authority = ca();
    let proxy = Proxy::start(200, serve(&authority, NAME, 2100).await).await;
    describe(&authority, Some(proxy.at)).await.unwrap();
    let passed = proxy.passed();
    assert!(passed.contains("CONNECT kms.example:443"), "{passed}");
    for secret in [API_KEY, "identity/token", "Bearer", KEY] {
        assert!(!passed.contains(secret), "{secret} passed in clear");
    }
    let without = describe(&authority, None).await.unwrap_err();
    assert!(without.is_outage(), "{without}");
}

#[tokio::test]
async fn a_service_behind_a_proxy_is_still_judged_by_its_certificate() {
    let (right, wrong) = (ca(), ca());
    let proxy = Proxy::start(200, serve(&wrong, NAME, 2100).await).await;
    let error = describe(&right, Some(proxy.at)).await.unwrap_err();
    assert_eq!(error.reason(), "TlsFailed", "{error}");
}

#[tokio::test]
async fn a_proxy_that_does_not_let_us_through_is_an_outage() {
    let authority = ca();
    let service = serve(&authority, NAME, 2100).await;
    for status in [403, 407, 502] {
        let proxy = Proxy::start(status, service).await;
        let error = describe(&authority, Some(proxy.at)).await.unwrap_err();
        assert_eq!(error.reason(), "KmsUnreachable", "{status}: {error}");
        assert!(error.is_outage() && !error.is_refusal(), "{status}: {error}");
    }
}
