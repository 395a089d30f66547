//! The three services that give tokens: for an assertion, for another token, and of a service account.
//!
//! Source: RFC 7523 and RFC 8693 as Google speaks them, and the IAM credentials API. Invariant: an assertion counts only if a key of
//! the account signed it, it is for this service, and now is within its hour.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{read, seconds};
use super::{Answer, Asked};
use crate::clock::rfc3339;
use crate::federation::signed_by;
use crate::status::Status;
use crate::tokens::Grant;
use crate::world::World;

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";
const HOUR: i64 = 3600;
/// How far a clock may be off.
const TOLERANCE: i64 = 300;

#[derive(Clone, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    scope: String,
    iat: i64,
    exp: i64,
}

/// An error of RFC 6749.
fn refused(error: &str, description: &str) -> Answer {
    Answer { status: 400, body: json!({"error": error, "error_description": description}) }
}

fn invalid_grant(description: &str) -> Answer {
    refused("invalid_grant", description)
}

type Form = std::collections::BTreeMap<String, String>;

fn form(asked: &Asked<'_>) -> Form {
    serde_urlencoded::from_bytes(asked.body).unwrap_or_default()
}

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map_or("", String::as_str)
}

/// A token for an assertion.
pub fn token(world: &mut World, asked: &Asked<'_>) -> Answer {
    let form = form(asked);
    if field(&form, "grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return refused("unsupported_grant_type", "Invalid grant_type");
    }
    let claims = match asserted(world, asked, field(&form, "assertion")) {
        Ok(claims) => claims,
        Err(answer) => return answer,
    };
    let scopes: Vec<String> = claims.scope.split(' ').map(str::to_owned).collect();
    let grant = Grant {
        member: format!("serviceAccount:{}", claims.iss),
        scopes,
        expires_at: world.clock.now() + HOUR,
    };
    granted(&world.tokens.issue(grant), None)
}

fn granted(token: &str, kind: Option<&str>) -> Answer {
    let mut body = json!({"access_token": token, "expires_in": HOUR - 1, "token_type": "Bearer"});
    if let Some(kind) = kind {
        body["issued_token_type"] = kind.into();
    }
    Answer { status: 200, body }
}

fn asserted(world: &World, asked: &Asked<'_>, assertion: &str) -> Result<Claims, Answer> {
    let unsigned = || invalid_grant("Invalid JWT Signature.");
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| unsigned())?;
    let keys = world.accounts.values().flat_map(|account| &account.keys);
    let key = keys.into_iter().find(|key| header.kid.as_ref() == Some(&key.id)).ok_or_else(unsigned)?;
    let claims: Claims = signed_by(assertion, key).ok_or_else(unsigned)?;
    let account = world.accounts.get(&claims.iss);
    if !account.is_some_and(|account| account.keys.iter().any(|own| own.id == key.id)) {
        return Err(invalid_grant("Invalid grant: account not found"));
    }
    let here = ["http", "https"].map(|scheme| format!("{scheme}://{}/token", asked.host));
    if claims.aud != TOKEN_URI && !here.contains(&claims.aud) {
        return Err(invalid_grant("Invalid JWT: Failed audience check."));
    }
    let now = world.clock.now();
    let in_time = claims.iat <= now + TOLERANCE && claims.exp > now - TOLERANCE;
    if !in_time || claims.exp - claims.iat > HOUR {
        return Err(invalid_grant(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
             Check your iat and exp values in the JWT claim.",
        ));
    }
    if claims.scope.is_empty() {
        return Err(refused("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
    }
    Ok(claims)
}

/// A token for one of a cluster.
pub fn exchange(world: &mut World, asked: &Asked<'_>) -> Answer {
    const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
    let form = form(asked);
    if asked.token.is_some() {
        return refused("invalid_request", "The Authorization header must not be sent.");
    }
    for (name, wanted) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ] {
        if field(&form, name) != wanted {
            return refused("invalid_request", &format!("Invalid value for {name}."));
        }
    }
    let audience = field(&form, "audience").strip_prefix("//iam.googleapis.com/").unwrap_or_default();
    let Some(pool) = world.pools.iter().find(|pool| pool.provider == audience) else {
        return refused(
            "invalid_target",
            "The target service indicated by the \"audience\" parameters is invalid.",
        );
    };
    let member = match pool.principal(field(&form, "subject_token"), world.clock.now()) {
        Ok(member) => member,
        Err(why) => return invalid_grant(&why),
    };
    let scopes = field(&form, "scope").split(' ').map(str::to_owned).collect();
    let grant = Grant { member, scopes, expires_at: world.clock.now() + HOUR };
    granted(&world.tokens.issue(grant), Some(ACCESS_TOKEN))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountBody {
    scope: Vec<String>,
    lifetime: Option<String>,
    #[serde(rename = "delegates")]
    _delegates: Option<Vec<String>>,
}

/// A token of a service account, for whoever may speak for it.
pub fn impersonate(world: &mut World, asked: &Asked<'_>, email: &str) -> Result<Value, Status> {
    let service = "iam.googleapis.com";
    let now = world.clock.now();
    let member = world.tokens.member(asked.token, &[IAM_SCOPE], "iamcredentials.googleapis.com", now)?;
    let resource = format!("serviceAccounts/{email}");
    world.allow(&member, "iam.serviceAccounts.getAccessToken", &resource, service)?;
    if !world.accounts.contains_key(email) {
        return Err(Status::not_found(&format!("Unknown service account {email}")));
    }
    let body: AccountBody = read(asked.body)?;
    let lifetime = body.lifetime.as_deref().map_or(Ok(HOUR), seconds)?;
    if body.scope.is_empty() || !(1..=HOUR).contains(&lifetime) {
        return Err(Status::invalid("scope must be given, and lifetime be an hour at most."));
    }
    let grant =
        Grant { member: format!("serviceAccount:{email}"), scopes: body.scope, expires_at: now + lifetime };
    let expires = rfc3339(grant.expires_at);
    Ok(json!({"accessToken": world.tokens.issue(grant), "expireTime": expires}))
}
