//! The token endpoint of Entra: client credentials with a secret or with a foreign token. Invariant: a token is issued for one
//! of the two resources only.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Seconds;
use crate::principal::Application;
use crate::server::Product;
use crate::token::{LIFETIME, Tokens};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Deserialize)]
struct Form {
    grant_type: String,
    #[serde(default)]
    client_id: String,
    scope: Option<String>,
    client_secret: Option<String>,
    client_assertion_type: Option<String>,
    client_assertion: Option<String>,
}

/// A failed sign-in: status, word, number, sentence.
type Refused = (u16, &'static str, u32, &'static str);

/// Answers `POST /TENANT/oauth2/v2.0/token`.
pub(crate) fn answer(
    applications: &[Application],
    tokens: &mut Tokens,
    tenant: (&str, &str),
    form: &[u8],
    now: Seconds,
) -> (u16, Value) {
    match issue(applications, tokens, tenant, form, now) {
        Ok(token) => {
            let body = json!({
                "token_type": "Bearer",
                "expires_in": LIFETIME,
                "ext_expires_in": LIFETIME,
                "access_token": token,
            });
            (200, body)
        }
        Err((status, word, number, sentence)) => {
            let body = json!({
                "error": word,
                "error_description": format!("AADSTS{number}: {sentence}"),
                "error_codes": [number],
                "timestamp": "2026-01-01 00:00:00Z",
                "trace_id": uuid::Uuid::new_v4().to_string(),
                "correlation_id": uuid::Uuid::new_v4().to_string(),
                "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
            });
            (status, body)
        }
    }
}

fn issue(
    applications: &[Application],
    tokens: &mut Tokens,
    (tenant, asked): (&str, &str),
    form: &[u8],
    now: Seconds,
) -> Result<String, Refused> {
    if asked != tenant {
        return Err((400, "invalid_request", 90_002, "Tenant not found."));
    }
    let form: Form = serde_urlencoded::from_bytes(form)
        .map_err(|_| (400, "invalid_request", 900_144, "The request body must contain 'grant_type'."))?;
    if form.grant_type != "client_credentials" {
        return Err((400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type."));
    }
    let application = applications
        .iter()
        .find(|application| application.client_id == form.client_id)
        .ok_or((400, "unauthorized_client", 700_016, "Application was not found in the directory."))?;
    prove(application, &form)?;
    let scope = form.scope.unwrap_or_default();
    // Others come along when the vendor's library asks.
    let audience = scope.split(' ').find_map(|one| one.strip_suffix("/.default")).unwrap_or_default();
    if ![Product::KeyVault, Product::ManagedHsm].iter().any(|product| product.resource() == audience) {
        return Err((
            400,
            "invalid_resource",
            500_011,
            "The resource principal was not found in the tenant.",
        ));
    }
    Ok(tokens.issue(tenant, &application.client_id, audience, now))
}

fn prove(application: &Application, form: &Form) -> Result<(), Refused> {
    match (&form.client_secret, &form.client_assertion_type, &form.client_assertion) {
        (Some(secret), None, None) => {
            if application.secrets.contains(secret) {
                return Ok(());
            }
            Err((401, "invalid_client", 7_000_215, "Invalid client secret provided."))
        }
        (None, Some(kind), Some(token)) if kind == ASSERTION => {
            application.accept(token).map_err(|(number, sentence)| (401, "invalid_client", number, sentence))
        }
        _ => Err((
            401,
            "invalid_client",
            7_000_218,
            "The request body must contain client_assertion or client_secret.",
        )),
    }
}
