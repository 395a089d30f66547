//! A cluster's issuer of service account tokens. Invariant: its private key does not leave it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::material::Material;

/// An issuer.
pub struct Issuer {
    url: String,
    key: EncodingKey,
    jwks: Value,
}

impl Issuer {
    /// One with a new key, at this address.
    pub fn new(url: &str) -> Self {
        let material = Material::rsa(2048).unwrap();
        let pkcs8 = material.pkcs8().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8));
        let mut key = material.public_members();
        key["kty"] = "RSA".into();
        key["alg"] = "RS256".into();
        key["kid"] = "k1".into();
        let jwks = json!({"keys": [key]});
        Self { url: url.into(), key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), jwks }
    }

    /// Its public keys.
    pub fn jwks(&self) -> Value {
        self.jwks.clone()
    }

    /// A token for a service account, with so many seconds to live.
    pub fn sign(&self, audience: &str, subject: &str, lifetime: i64) -> String {
        self.sign_as(&self.url, audience, subject, lifetime)
    }

    /// The same, as if it were the issuer at another address.
    pub fn sign_as(&self, url: &str, audience: &str, subject: &str, lifetime: i64) -> String {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let claims =
            json!({"iss": url, "aud": [audience], "sub": subject, "iat": now, "exp": now + lifetime});
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}
