//! A service account's key: the JSON file, and the assertion that is signed with it (RFC 7523, RS256).
//!
//! Invariant: nothing of the file leads anywhere. It says who we are; where to say so, the configuration says alone.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::identity::KMS_SCOPE;
use crate::error::ErrorKind;

/// Longer ones are not accepted.
const LIFETIME: Duration = Duration::from_hours(1);

/// What is used of the file. The key is not copied out of it.
#[derive(Deserialize)]
struct KeyFile<'a> {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key_id: String,
    private_key: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

/// A signed statement of who we are, good for an hour from `now` (seconds since 1970) at `audience` only.
pub(super) fn assertion(file: &str, audience: &str, now: i64) -> Result<Zeroizing<String>, ErrorKind> {
    let unreadable = || ErrorKind::CredentialUnreadable;
    let file = plain(file);
    let file: KeyFile<'_> = serde_json::from_str(&file).map_err(|_| unreadable())?;
    if file.kind != "service_account" {
        return Err(unreadable());
    }
    let pair = key_pair(file.private_key).ok_or_else(unreadable)?;
    let header = Header { alg: "RS256", typ: "JWT", kid: &file.private_key_id };
    let exp = now + LIFETIME.as_secs() as i64;
    let claims = Claims { iss: &file.client_email, scope: KMS_SCOPE, aud: audience, iat: now, exp };
    let mut text = Zeroizing::new(String::with_capacity(2048));
    append(&mut text, &header);
    text.push('.');
    append(&mut text, &claims);
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| unreadable())?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(text)
}

fn append(text: &mut String, part: &impl Serialize) {
    let json = serde_json::to_vec(part).expect("these are texts and numbers");
    URL_SAFE_NO_PAD.encode_string(json, text);
}

/// The file without the escapes that a key is written with: a parser copies what has escapes, and does not wipe its copy.
pub(super) fn plain(file: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(file.len() + 1));
    for line in file.split("\\n") {
        for (at, part) in line.split("\\u003d").enumerate() {
            if at > 0 {
                text.push('=');
            }
            text.push_str(part);
        }
        text.push(' ');
    }
    text
}

/// The key of a PEM block as Google writes it: PKCS#8.
fn key_pair(pem: &str) -> Option<KeyPair> {
    let body = pem.trim().strip_prefix("-----BEGIN PRIVATE KEY-----")?;
    let body = body.strip_suffix("-----END PRIVATE KEY-----")?;
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    text.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut der = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD.decode_vec(text.as_bytes(), &mut der).ok()?;
    KeyPair::from_pkcs8(&der).ok()
}
