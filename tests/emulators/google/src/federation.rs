//! Workload identity federation: whose tokens are believed, and a cluster that makes such tokens.
//!
//! Invariant: a token counts only if its issuer's key signed it, for one of the audiences, and its time is not over.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::account::{AccountKey, PublicKey};

/// A provider of a workload identity pool.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pool {
    /// The provider's name, without the leading `//iam.googleapis.com/`.
    pub provider: String,
    /// Who issues the tokens that it believes.
    pub issuer: String,
    /// For whom they must be.
    pub audience: String,
    pub(crate) key: PublicKey,
}

/// A cluster that issues tokens of its service accounts.
pub struct Cluster {
    key: AccountKey,
    issuer: String,
}

#[derive(Clone, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    exp: i64,
}

impl Cluster {
    /// With an issuer of this address.
    pub fn new(issuer: &str) -> Self {
        Self { key: AccountKey::new(), issuer: issuer.to_owned() }
    }

    /// A pool that believes this cluster.
    pub fn pool(&self, provider: &str, audience: &str) -> Pool {
        let (provider, audience) = (provider.to_owned(), audience.to_owned());
        Pool { provider, issuer: self.issuer.clone(), audience, key: self.key.public.clone() }
    }

    /// A token of `subject` for `audience` that ends at `exp`.
    pub fn token(&self, subject: &str, audience: &str, exp: i64) -> String {
        let header = Header { kid: Some(self.key.id.clone()), ..Header::new(Algorithm::RS256) };
        let claims = json!({
            "iss": self.issuer, "sub": subject, "aud": [audience], "iat": exp - 3600, "nbf": exp - 3600, "exp": exp,
        });
        let key = EncodingKey::from_rsa_pem(self.key.pem.as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

impl Pool {
    /// The principal that a token speaks of.
    pub fn principal(&self, token: &str, now: i64) -> Result<String, String> {
        let claims: Claims = signed_by(token, &self.key).ok_or("The token's signature is not valid.")?;
        if claims.iss != self.issuer {
            return Err("The issuer in ID Token does not match the expected one.".into());
        }
        if !claims.aud.contains(&self.audience) {
            return Err("The audience in ID Token does not match the expected audience.".into());
        }
        if claims.exp <= now {
            return Err("The ID Token is expired.".into());
        }
        let pool = self.provider.split_once("/providers/").map_or(self.provider.as_str(), |(pool, _)| pool);
        Ok(format!("principal://iam.googleapis.com/{pool}/subject/{}", claims.sub))
    }
}

/// The claims of a token that a key signed with RS256; whether they hold is another matter.
pub fn signed_by<T: for<'de> Deserialize<'de> + Clone>(token: &str, key: &PublicKey) -> Option<T> {
    let mut validation = Validation::new(Algorithm::RS256);
    // By the service's clock, which this crate does not know.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_rsa_components(&key.modulus, &key.exponent).ok()?;
    jsonwebtoken::decode::<T>(token, &key, &validation).ok().map(|token| token.claims)
}
