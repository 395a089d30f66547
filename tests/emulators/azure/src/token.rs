//! Access tokens. Invariant: a token counts for one audience, for its time, and until all issued so far are revoked.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::clock::Seconds;
use crate::failure::Failure;

/// How long a token lives.
pub(crate) const LIFETIME: Seconds = 3599;

/// The tokens of a tenant.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Tokens {
    key: Vec<u8>,
    issued: u64,
    /// Tokens with a smaller number are worthless.
    valid_from: u64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    appid: String,
    iat: Seconds,
    nbf: Seconds,
    exp: Seconds,
    tid: String,
    number: u64,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).unwrap();
        Self { key, issued: 0, valid_from: 0 }
    }

    pub(crate) fn issue(&mut self, tenant: &str, client_id: &str, audience: &str, now: Seconds) -> String {
        let claims = Claims {
            aud: audience.into(),
            iss: format!("https://sts.windows.net/{tenant}/"),
            appid: client_id.into(),
            iat: now,
            nbf: now,
            exp: now + LIFETIME,
            tid: tenant.into(),
            number: self.issued,
        };
        self.issued += 1;
        let key = EncodingKey::from_secret(&self.key);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
    }

    pub(crate) fn revoke_all(&mut self) {
        self.valid_from = self.issued;
    }

    /// The client id that a token stands for.
    pub(crate) fn verify(&self, token: &str, audience: &str, now: Seconds) -> Result<String, Failure> {
        let mut validation = Validation::new(Algorithm::HS256);
        // The clock is ours.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(&self.key);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|_| {
                Failure::unauthorized("AKV10031: Error validating token: the signature is invalid.")
            })?
            .claims;
        if claims.aud != audience {
            return Err(Failure::unauthorized("AKV10022: Invalid audience."));
        }
        if now >= claims.exp || claims.number < self.valid_from {
            return Err(Failure::unauthorized("AKV10046: The token is expired or revoked."));
        }
        Ok(claims.appid)
    }
}
