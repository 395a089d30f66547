//! A vault and a login endpoint at one address, byte for byte.
//!
//! Invariant: a login succeeds unless a test says otherwise; only what is asked of the vault is told to the script.

use std::sync::Arc;

use contract::config::{AzureKeyVault, Credential, Provider};
use secrecy::SecretString;

use crate::admin::KmsAdmin;
use crate::config::ProviderConfig;
use crate::connect::{connect_admin, connect_with_secret};
use crate::key::{ContextScheme, KeyRef, KeyVersion, PlainKey, Wrapped};
use crate::service::Kms;

pub(super) use crate::http::fake::{Fake, JSON, Request, Say, bare, ok, status};

pub(super) const V1: &str = "00112233445566778899aabbccddeeff";
pub(super) const V2: &str = "f0e1d2c3b4a5968778695a4b3c2d1e0f";
pub(super) const PLAIN: [u8; 32] = *b"\xff\xfe\xfdthirty-two bytes of plaintext";
pub(super) const PLAIN_TEXT: &str = "__79dGhpcnR5LXR3byBieXRlcyBvZiBwbGFpbnRleHQ";
pub(super) const CTX: [u8; 32] = [0xfb; 32];
pub(super) const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ.token"}"#;

pub(super) fn root_key(at: &str) -> AzureKeyVault {
    AzureKeyVault { vault: at.into(), login_endpoint: at.into(), key: "k".into() }
}

pub(super) fn client_secret() -> Credential {
    Credential::AzureClientSecretFile {
        tenant_id: "tenant-1".into(),
        client_id: "client-1".into(),
        path: "/not/read".into(),
    }
}

pub(super) fn config(root_key: AzureKeyVault, credential: Credential) -> ProviderConfig {
    ProviderConfig::new(Provider::Azure(root_key), credential).at_loopback()
}

pub(super) fn here(fake: &Fake) -> ProviderConfig {
    config(root_key(&format!("http://{}", fake.at)), client_secret())
}

pub(super) fn secret() -> SecretString {
    SecretString::from("client-secret+that&nobody=may see")
}

pub(super) fn kms(fake: &Fake) -> Arc<dyn Kms> {
    connect_with_secret(&here(fake), secret(), &bare()).unwrap()
}

pub(super) fn admin(fake: &Fake) -> Arc<dyn KmsAdmin> {
    connect_admin(&here(fake), Some(secret()), &bare()).unwrap()
}

pub(super) fn is_login(request: &Request) -> bool {
    request.line.ends_with("/oauth2/v2.0/token")
}

/// Answers logins; everything else by `say`.
pub(super) async fn fake(mut say: impl FnMut(&Request) -> Say + Send + 'static) -> Fake {
    Fake::raw(move |request| if is_login(request) { ok(TOKEN) } else { say(request) }).await
}

/// What is asked of a path, without the version of the API.
pub(super) fn line(request: &Request) -> String {
    request.line.replace("?api-version=7.4&", "?").replace("?api-version=7.4", "")
}

/// A key whose current version is the second.
pub(super) fn key_body(kty: &str, attributes: &str) -> String {
    format!(
        r#"{{"key":{{"kid":"https://v.vault.azure.net/keys/k/{V2}","kty":"{kty}","n":"AQ","e":"AQAB"}},"attributes":{{{attributes}}},"tags":{{}}}}"#
    )
}

/// Answer to a wrap or an unwrap of `version`.
pub(super) fn result(version: &str, value: &str) -> Say {
    ok(format!(r#"{{"kid":"https://v.vault.azure.net/keys/k/{version}","value":"{value}"}}"#))
}

/// An error in the vendor's words.
pub(super) fn error(code: u16, word: &str, inner: &str) -> Say {
    status(code, JSON, error_body(word, inner))
}

pub(super) fn error_body(word: &str, inner: &str) -> String {
    let inner =
        if inner.is_empty() { String::new() } else { format!(r#","innererror":{{"code":"{inner}"}}"#) };
    format!(r#"{{"error":{{"code":"{word}","message":"m"{inner}}}}}"#)
}

pub(super) fn last(fake: &Fake) -> Request {
    fake.requests().last().unwrap().clone()
}

/// What was asked of the vault.
pub(super) fn asked(fake: &Fake) -> Vec<String> {
    fake.requests().iter().filter(|request| !is_login(request)).map(line).collect()
}

/// A key that the first version wrapped with RSA-OAEP-256.
pub(super) fn wrapped() -> Wrapped {
    let version =
        [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    let blob = [&[1, 1], version.as_slice(), &[0xfb; 256]].concat();
    Wrapped { blob, version: Some(KeyVersion(V1.into())), scheme: ContextScheme::None }
}

/// That key as the vault writes it.
pub(super) fn sealed() -> String {
    format!("{}-w", "-_v7".repeat(85))
}

pub(super) fn key() -> KeyRef {
    KeyRef("k".into())
}

pub(super) fn plain() -> PlainKey {
    PlainKey::from_bytes(&PLAIN)
}
