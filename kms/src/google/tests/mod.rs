//! The provider on the wire: what it sends, byte for byte, and what it makes of answers that no real server gives.
#![allow(clippy::unwrap_used, clippy::panic)]

mod login;
mod refusal;
mod wire;

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contract::config::{Credential, GoogleKms, Provider};
use secrecy::SecretString;
use serde_json::json;

use crate::admin::KmsAdmin;
use crate::config::ProviderConfig;
use crate::connect::{connect_admin, connect_with_secret};
use crate::http::fake::{Fake, Request, Say, bare, ok};
use crate::key::{ContextScheme, KeyRef, KeyVersion, Wrapped};
use crate::service::Kms;

const RING: &str = "projects/p/locations/europe-west3/keyRings/r";
const KEY: &str = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k";
const CTX: [u8; 32] = [0xfb; 32];
const TOKEN: &str = r#"{"access_token":"ya29.token","expires_in":3599,"token_type":"Bearer"}"#;

fn spec(fake: &Fake) -> GoogleKms {
    let url = format!("http://{}", fake.at);
    GoogleKms {
        endpoint: Some(url.clone()),
        token_endpoint: Some(format!("{url}/token")),
        sts_endpoint: Some(url.clone()),
        iam_endpoint: Some(url),
        key: KEY.into(),
    }
}

fn config(spec: GoogleKms, credential: Credential) -> ProviderConfig {
    ProviderConfig::new(Provider::Google(spec), credential).at_loopback()
}

fn by_key() -> Credential {
    Credential::GoogleKeyFile { path: "/not/read".into() }
}

fn key_pair() -> &'static KeyPair {
    static PAIR: OnceLock<KeyPair> = OnceLock::new();
    PAIR.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
}

/// A key file that leads somewhere else.
fn key_file() -> SecretString {
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(key_pair()).unwrap();
    let body = STANDARD.encode(der.as_ref());
    let file = json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "key-1",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
        "client_email": "sidecar@p.iam.gserviceaccount.com",
        "token_uri": "https://elsewhere.example/token",
    });
    SecretString::from(file.to_string())
}

fn kms(fake: &Fake) -> Arc<dyn Kms> {
    connect_with_secret(&config(spec(fake), by_key()), key_file(), &bare()).unwrap()
}

fn admin(fake: &Fake) -> Arc<dyn KmsAdmin> {
    connect_admin(&config(spec(fake), by_key()), Some(key_file()), &bare()).unwrap()
}

fn is_login(request: &Request) -> bool {
    request.line == "POST /token"
}

/// Answers logins; everything else by `say`.
async fn fake(say: impl Fn(&Request) -> Say + Send + 'static) -> Fake {
    Fake::raw(move |request| if is_login(request) { ok(TOKEN) } else { say(request) }).await
}

fn last(fake: &Fake) -> Request {
    fake.requests().last().unwrap().clone()
}

fn key() -> KeyRef {
    KeyRef(KEY.into())
}

/// A blob that version 1 wrapped: the bytes `ABC`.
fn wrapped() -> Wrapped {
    Wrapped { blob: b"ABC".to_vec(), version: Some(KeyVersion("1".into())), scheme: ContextScheme::Aad }
}
