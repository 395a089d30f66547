//! The import token of an instance. Invariant: at most one; a new one replaces the old, whose public key is then worth nothing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{encode, parse_or_default};
use super::{Call, Reply};
use crate::access::Resource;
use crate::clock::{Seconds, rfc3339};
use crate::error::{ApiError, Reason};
use crate::keys::import::ImportToken;
use crate::service::Service;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Body {
    expiration: Option<f64>,
    max_allowed_retrievals: Option<f64>,
}

/// Makes a token; the RSA pair is drawn before the state is locked.
pub fn create(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    call.require(&Resource::Instance(call.instance))?;
    let body: Body = parse_or_default(call.body)?;
    let lifetime = body.expiration.unwrap_or(600.0);
    if !(300.0..=86_400.0).contains(&lifetime) {
        return Err(ApiError::field("expiration"));
    }
    let retrievals = body.max_allowed_retrievals.unwrap_or(1.0);
    if !(1.0..=500.0).contains(&retrievals) {
        return Err(ApiError::field("maxAllowedRetrievals"));
    }
    let token = ImportToken::generate(call.now, lifetime as Seconds, retrievals as u32)
        .map_err(|_| Reason::Internal)?;
    let shown = dates(&token);
    let mut state = service.lock();
    call.instance_in(&state)?;
    service.change_instance(&mut state, call.instance, |instance| {
        instance.import_token = Some(token);
        Ok(Reply::with(200, shown))
    })
}

/// Hands out public key and nonce, as often as the token allows.
pub fn get(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    call.require(&Resource::Instance(call.instance))?;
    call.instance_in(&state)?;
    service.change_instance(&mut state, call.instance, |instance| {
        let token = instance.import_token.as_mut().ok_or(Reason::ImportTokenNotFound)?;
        if token.expires <= call.now || token.remaining == 0 {
            return Err(Reason::ImportTokenExpired.into());
        }
        token.remaining -= 1;
        let pem = token.public_pem().map_err(|_| Reason::Internal)?;
        let mut out = dates(token);
        out["payload"] = json!(encode(pem.as_bytes()));
        out["nonce"] = json!(encode(token.nonce.expose()));
        Ok(Reply::with(200, out))
    })
}

fn dates(token: &ImportToken) -> Value {
    json!({
        "creationDate": rfc3339(token.created),
        "expirationDate": rfc3339(token.expires),
        "maxAllowedRetrievals": token.max_retrievals,
        "remainingRetrievals": token.remaining,
    })
}
