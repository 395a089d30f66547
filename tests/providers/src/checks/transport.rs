//! Certificates and redirects: who is believed to be the service.

use std::net::SocketAddr;

use kms::{CaSource, KeyInfo};

use super::{Bench, CallCtx, KmsError, bare};
use crate::front::{self, Authority};

async fn describe(bench: &impl Bench, at: SocketAddr, ca: Option<CaSource>) -> Result<KeyInfo, KmsError> {
    let kms = bench.connect_at(&format!("https://{at}"), ca, &bare());
    kms.describe(&bench.key(), &CallCtx::new()).await
}

pub async fn a_certificate_counts_only_if_authority_name_and_time_are_right(b: impl Bench) {
    let (right, wrong) = (Authority::new(), Authority::new());
    let pem = |authority: &Authority| Some(CaSource::Pem { pem: authority.pem() });
    let good = front::tls(b.address(), right.issue("127.0.0.1", 2100)).await;
    describe(&b, good, pem(&right)).await.unwrap();
    let both = CaSource::Pem { pem: format!("{}{}", wrong.pem(), right.pem()) };
    describe(&b, good, Some(both)).await.expect("an old and a new authority");
    let other_name = front::tls(b.address(), right.issue("kms.example", 2100)).await;
    let expired = front::tls(b.address(), right.issue("127.0.0.1", 2021)).await;
    for (at, ca, what) in [
        (good, pem(&wrong), "another authority"),
        (good, None, "the system's authorities"),
        (other_name, pem(&right), "another name"),
        (expired, pem(&right), "expired"),
        (b.address(), pem(&right), "no tls at all"),
    ] {
        let error = describe(&b, at, ca).await.unwrap_err();
        assert_eq!(error.reason(), "TlsFailed", "{what}: {error}");
        assert!(error.is_outage() && !error.is_refusal(), "{what}");
    }
}

pub async fn a_redirect_is_not_followed(b: impl Bench) {
    let authority = Authority::new();
    let (elsewhere, visits) = front::visits().await;
    for status in [301, 302, 307, 308] {
        let at = front::redirect(status, elsewhere, &authority).await;
        let ca = Some(CaSource::Pem { pem: authority.pem() });
        let error = describe(&b, at, ca).await.unwrap_err();
        assert!(error.is_outage() && !error.is_refusal(), "{status}: {error}");
        assert_eq!(error.reason(), "KmsAnswerUnusable", "{status}: {error}");
    }
    assert_eq!(visits.load(std::sync::atomic::Ordering::SeqCst), 0, "somebody went there");
}
