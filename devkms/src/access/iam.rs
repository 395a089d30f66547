//! The IAM token endpoint: an API key or a service account token goes in, an access token comes out.
//! Invariant: what is refused says why to the caller only as far as IAM does; no secret is repeated.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::token::{self, Claims};
use super::{Access, Identity};
use crate::clock::Seconds;
use crate::keys::Material;

const API_KEY: &str = "urn:ibm:params:oauth:grant-type:apikey";
const COMPUTE_RESOURCE: &str = "urn:ibm:params:oauth:grant-type:cr-token";
const REFRESH: &str = "refresh_token";

/// How long a refresh token is good for.
const REFRESH_LIFETIME: Seconds = 72 * 3600;

/// A token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IamError {
    /// A form field is missing.
    Missing(&'static str),
    UnknownGrantType,
    UnknownApiKey,
    UnknownProfile,
    /// The service account token does not stand for the profile.
    BadComputeResourceToken,
    BadRefreshToken,
    /// The identity is locked.
    Disabled,
    /// The server could not sign.
    Internal,
}

impl IamError {
    /// HTTP status: 400 for whatever the caller brought, 500 for this server.
    pub fn status(self) -> u16 {
        if self == Self::Internal { 500 } else { 400 }
    }

    /// IAM's code word. Only the one of an unknown API key and of a missing property are known from IAM itself.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing(_) | Self::UnknownGrantType => "BXNIM0109E",
            Self::UnknownApiKey | Self::Disabled => "BXNIM0415E",
            Self::UnknownProfile => "BXNIM0507E",
            Self::BadComputeResourceToken => "BXNIM0447E",
            Self::BadRefreshToken => "BXNIM0408E",
            Self::Internal => "BXNIM0100E",
        }
    }

    /// The body of the refusal.
    pub fn body(self, request_id: &str) -> Value {
        let message = match self {
            Self::Missing(field) => format!("form field {field} is missing"),
            Self::UnknownGrantType => "grant_type is none that this server takes".to_owned(),
            Self::UnknownApiKey => "the API key is not known".to_owned(),
            Self::UnknownProfile => "the trusted profile is not known".to_owned(),
            Self::BadComputeResourceToken => {
                "the compute resource token was not accepted for this profile".to_owned()
            }
            Self::BadRefreshToken => "the refresh token is not valid".to_owned(),
            Self::Disabled => "the identity is disabled".to_owned(),
            Self::Internal => "the token could not be made".to_owned(),
        };
        json!({"errorCode": self.code(), "errorMessage": message, "context": {"requestId": request_id}})
    }
}

/// What a token costs and how long it lives.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub now: Seconds,
    pub lifetime: Seconds,
}

/// Answers a token request; the name of the identity comes along for the audit trail.
pub fn grant(
    access: &mut Access,
    key: &Material,
    form: &HashMap<String, String>,
    terms: Terms,
) -> Result<(String, Value), IamError> {
    let field = |name: &'static str| form.get(name).filter(|v| !v.is_empty()).ok_or(IamError::Missing(name));
    let identity = match field("grant_type")?.as_str() {
        API_KEY => access.by_api_key(field("apikey")?).ok_or(IamError::UnknownApiKey)?,
        COMPUTE_RESOURCE => by_service_account(access, form, field("cr_token")?)?,
        REFRESH => by_refresh_token(access, key, field("refresh_token")?, terms.now)?,
        _ => return Err(IamError::UnknownGrantType),
    };
    if !identity.enabled {
        return Err(IamError::Disabled);
    }
    let identity = identity.clone();
    reply(key, &identity, access.next_serial(), terms)
}

fn by_service_account<'a>(
    access: &'a Access,
    form: &HashMap<String, String>,
    token: &str,
) -> Result<&'a Identity, IamError> {
    let text = |name: &str| form.get(name).map(String::as_str).filter(|v| !v.is_empty());
    // A profile's CRN ends with its id.
    let id = text("profile_id").or_else(|| text("profile_crn").and_then(|crn| crn.rsplit(':').next()));
    if id.is_none() && text("profile_name").is_none() {
        return Err(IamError::Missing("profile_id"));
    }
    let profile = access.profile(id, text("profile_name")).ok_or(IamError::UnknownProfile)?;
    profile.verify(token).map_err(|error| {
        tracing::info!(
            profile = profile.name,
            error = &error as &dyn std::error::Error,
            "refuse a service account token"
        );
        IamError::BadComputeResourceToken
    })?;
    access.by_id(&format!("iam-{}", profile.id)).ok_or(IamError::UnknownProfile)
}

fn by_refresh_token<'a>(
    access: &'a Access,
    key: &Material,
    token: &str,
    now: Seconds,
) -> Result<&'a Identity, IamError> {
    let claims = token::read(key, token).map_err(|_| IamError::BadRefreshToken)?;
    if claims.refresh != Some(true) {
        return Err(IamError::BadRefreshToken);
    }
    access.bearer(&claims, now).ok_or(IamError::BadRefreshToken)
}

fn reply(
    key: &Material,
    identity: &Identity,
    serial: u64,
    terms: Terms,
) -> Result<(String, Value), IamError> {
    let sign = |lifetime, refresh| -> Result<(Claims, String), IamError> {
        token::issue(key, identity, serial, terms.now, lifetime, refresh).map_err(|_| IamError::Internal)
    };
    let (claims, access_token) = sign(terms.lifetime, false)?;
    let (_, refresh_token) = sign(REFRESH_LIFETIME, true)?;
    let body = json!({
        "access_token": access_token,
        "refresh_token": refresh_token,
        "token_type": "Bearer",
        "expires_in": terms.lifetime,
        "expiration": claims.exp,
        "scope": "ibm openid",
    });
    Ok((identity.name.clone(), body))
}
