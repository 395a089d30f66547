//! An operator's check-in server: HTTPS with a certificate of an own CA, orders that a test chooses.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use contract::check_in::{CheckIn, CheckInReply};
use contract::names::CHECK_IN_PATH;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub const TOKEN: &str = "a-pod-bound-token";

/// A CA, and a server certificate for 127.0.0.1 by it.
pub struct Authority {
    pub ca_pem: String,
    chain: String,
    key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let server = server.signed_by(&key, &ca).unwrap();
        Self { ca_pem: ca.pem(), chain: server.pem(), key: key.serialize_pem() }
    }
}

#[derive(Default)]
struct Heard {
    reports: Vec<CheckIn>,
    reply: CheckInReply,
    busy: Option<(StatusCode, HeaderMap)>,
}

/// The server; ends with the runtime.
pub struct FakeOperator {
    pub url: String,
    heard: Arc<Mutex<Heard>>,
    tls: RustlsConfig,
}

impl FakeOperator {
    pub async fn start(authority: &Authority) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let heard = Arc::<Mutex<Heard>>::default();
        let app = Router::new().route(CHECK_IN_PATH, post(hear)).with_state(Arc::clone(&heard));
        let (chain, key) = (authority.chain.clone().into_bytes(), authority.key.clone().into_bytes());
        let tls = RustlsConfig::from_pem(chain, key).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server = axum_server::from_tcp_rustls(listener, tls.clone()).unwrap();
        tokio::spawn(async move { server.serve(app.into_make_service()).await });
        Self { url, heard, tls }
    }

    /// Another certificate, by another CA.
    pub async fn renew(&self, authority: &Authority) {
        let (chain, key) = (authority.chain.clone().into_bytes(), authority.key.clone().into_bytes());
        self.tls.reload_from_pem(chain, key).await.unwrap();
    }

    pub fn answer_with(&self, reply: CheckInReply) {
        self.heard.lock().unwrap().reply = reply;
    }

    /// Answers the next report so.
    pub fn busy(&self, code: u16, retry_after: Option<&str>) {
        let headers = retry_after.map(|value| (RETRY_AFTER, value.parse().unwrap()));
        let busy = (StatusCode::from_u16(code).unwrap(), headers.into_iter().collect());
        self.heard.lock().unwrap().busy = Some(busy);
    }

    /// Whether the answer of [`Self::busy`] was given.
    pub fn was_busy(&self) -> bool {
        self.heard.lock().unwrap().busy.is_none()
    }

    pub fn reports(&self) -> Vec<CheckIn> {
        self.heard.lock().unwrap().reports.clone()
    }
}

async fn hear(
    State(heard): State<Arc<Mutex<Heard>>>,
    headers: HeaderMap,
    Json(report): Json<CheckIn>,
) -> Response {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
    if bearer != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut heard = heard.lock().unwrap();
    if let Some(busy) = heard.busy.take() {
        return busy.into_response();
    }
    heard.reports.push(report);
    Json(heard.reply.clone()).into_response()
}

/// Writes CA and token where a pod has them.
pub fn files(dir: &Path, authority: &Authority) {
    std::fs::write(dir.join("ca.crt"), &authority.ca_pem).unwrap();
    std::fs::write(dir.join("token"), format!("{TOKEN}\n")).unwrap();
}
