//! Access tokens: JWTs that this server signs and checks. Invariant: a token without a valid signature has no subject here.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::Identity;
use crate::clock::Seconds;
use crate::keys::Material;

/// The account that every identity of this server belongs to.
pub const ACCOUNT: &str = "00000000000000000000000000000000";

/// Claims of an access token, as far as clients and this server look at them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    pub iam_id: String,
    pub sub: String,
    pub iss: String,
    pub account: Account,
    pub iat: Seconds,
    pub exp: Seconds,
    pub jti: String,
    /// Counts every token of this server, so that those issued so far can be revoked together.
    pub serial: u64,
    /// Set in refresh tokens, which are no access tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<bool>,
}

/// The account claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    pub bss: String,
}

/// The token could not be made, or is none of ours.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("sign the token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    #[error("read the token")]
    Read(#[source] jsonwebtoken::errors::Error),
}

/// Signs claims for `identity`, valid for `lifetime` seconds from `now`.
pub fn issue(
    key: &Material,
    identity: &Identity,
    serial: u64,
    now: Seconds,
    lifetime: Seconds,
    refresh: bool,
) -> Result<(Claims, String), TokenError> {
    let claims = Claims {
        iam_id: identity.id.clone(),
        sub: identity.id.trim_start_matches("iam-").to_owned(),
        iss: "https://iam.cloud.ibm.com/identity".to_owned(),
        account: Account { bss: ACCOUNT.to_owned() },
        iat: now,
        exp: now + lifetime,
        jti: uuid::Uuid::new_v4().to_string(),
        serial,
        refresh: refresh.then_some(true),
    };
    let token = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(key.expose()),
    )
    .map_err(TokenError::Sign)?;
    Ok((claims, token))
}

/// Checks signature and form; time and revocation are the caller's, who has the clock.
pub fn read(key: &Material, token: &str) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(key.expose()), &validation)
        .map(|data| data.claims)
        .map_err(TokenError::Read)
}
