//! Service accounts and their keys.
//!
//! Invariant: of a key the service keeps the public half; the private one is in the file that whoever made it got.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A key of a service account, both halves.
#[derive(Clone)]
pub struct AccountKey {
    /// The private half, as PEM.
    pub pem: String,
    /// Its id.
    pub id: String,
    pub(crate) public: PublicKey,
}

/// The public half.
#[derive(Clone, Serialize, Deserialize)]
pub struct PublicKey {
    pub id: String,
    pub modulus: String,
    pub exponent: String,
}

/// A service account.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Account {
    pub keys: Vec<PublicKey>,
}

impl AccountKey {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "two of them are never equal")]
    pub fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let lines: Vec<String> = STANDARD
            .encode(der.as_ref())
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let mut id = [0; 20];
        getrandom::fill(&mut id).unwrap();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = PublicKey {
            id: id.clone(),
            modulus: number(pair.public_key().modulus().big_endian_without_leading_zero()),
            exponent: number(pair.public_key().exponent().big_endian_without_leading_zero()),
        };
        Self { pem, id, public }
    }

    /// The file that Google gives to whoever makes a key. `token_uri` is where the file says that tokens are had.
    pub fn file(&self, email: &str, token_uri: &str) -> String {
        let file = json!({
            "type": "service_account",
            "project_id": "example",
            "private_key_id": self.id,
            "private_key": self.pem,
            "client_email": email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        });
        serde_json::to_string_pretty(&file).unwrap()
    }
}
