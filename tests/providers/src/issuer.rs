//! A cluster's issuer of service account tokens, for providers that take them.
//!
//! Invariant: its keys live as long as this process and are known to nobody else.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// An issuer.
pub(crate) struct Issuer {
    key: EncodingKey,
    /// Its public keys.
    pub(crate) jwks: Value,
}

impl Issuer {
    /// One with a new key, which is called `kid`.
    pub(crate) fn new(kid: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let body = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let public = pair.public_key();
        let number = |n: &[u8]| URL_SAFE_NO_PAD.encode(n);
        let (n, e) = (
            number(public.modulus().big_endian_without_leading_zero()),
            number(public.exponent().big_endian_without_leading_zero()),
        );
        let jwks =
            json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e}]});
        Self { key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), jwks }
    }

    /// A token that is good from now on for `lifetime` seconds.
    pub(crate) fn sign(
        &self,
        kid: &str,
        issuer: &str,
        audience: &str,
        subject: &str,
        lifetime: u64,
    ) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims =
            json!({"iss": issuer, "aud": [audience], "sub": subject, "iat": now, "exp": now + lifetime});
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}
