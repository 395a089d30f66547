//! STS: a role for a token of an issuer.
//!
//! Source: the STS API reference, 2011-06-15. Invariant: a session is given only for a token whose signature, issuer, audience, time
//! and subject all hold.

use std::collections::BTreeMap;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::clock::{Millis, moment};
use crate::policy::{Wish, allows};
use crate::refusal::{Answer, Refusal, refusal, refuse};
use crate::world::{Session, World};
use crate::{ACCOUNT, signature::hex};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Form {
    action: String,
    version: String,
    role_arn: String,
    role_session_name: String,
    web_identity_token: String,
    #[serde(default = "an_hour")]
    duration_seconds: i64,
}

fn an_hour() -> i64 {
    3600
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: OneOrMore,
    sub: String,
    exp: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn denied(action: &str) -> Refusal {
    Refusal { status: 403, code: "AccessDenied", message: format!("Not authorized to perform sts:{action}") }
}

impl World {
    /// Answers a form with XML.
    pub(crate) fn sts(&mut self, body: &[u8]) -> Answer<String> {
        let form: Form = serde_urlencoded::from_bytes(body)
            .map_err(|error| refusal("ValidationError", format!("the form cannot be read: {error}")))?;
        if form.action != "AssumeRoleWithWebIdentity" || form.version != "2011-06-15" {
            return refuse("InvalidAction", format!("Could not find operation {}", form.action));
        }
        let named = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
        if !(2..=64).contains(&form.role_session_name.len()) || !form.role_session_name.bytes().all(named) {
            return refuse("ValidationError", "1 validation error detected: Value at 'roleSessionName'");
        }
        if !(900..=3600).contains(&form.duration_seconds) {
            return refuse(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            );
        }
        let claims = self.verified(&form.web_identity_token)?;
        let prefix = format!("arn:aws:iam::{ACCOUNT}:role/");
        let role = form.role_arn.strip_prefix(&prefix).filter(|name| self.trusts(name, &claims));
        let role = role.ok_or_else(|| denied(&form.action))?.to_owned();
        let session = self.give(role, form.role_session_name, form.duration_seconds * 1000);
        Ok(answer(&session, &claims))
    }

    /// What a token says, where one of our issuers signed it and it has not ended.
    fn verified(&self, token: &str) -> Answer<Claims> {
        let invalid = |why: &str| refusal("InvalidIdentityToken", why);
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| invalid("The ID Token provided is not a valid JWT"))?;
        let unverified = jsonwebtoken::dangerous::insecure_decode::<Claims>(token)
            .map_err(|_| invalid("The ID Token provided is not a valid JWT"))?
            .claims;
        let Some(jwks) = self.issuers.get(&unverified.iss) else {
            return refuse(
                "InvalidIdentityToken",
                format!("No OpenIDConnect provider found in your account for {}", unverified.iss),
            );
        };
        let set: JwkSet = serde_json::from_value(jwks.clone())
            .map_err(|_| invalid("Couldn't retrieve verification key from your identity provider"))?;
        let key = header.kid.as_deref().and_then(|kid| set.find(kid));
        let key = key.and_then(|jwk| DecodingKey::from_jwk(jwk).ok());
        let key = key.ok_or_else(|| invalid("No key of the identity provider has the token's kid"))?;
        let mut validation = Validation::new(Algorithm::RS256);
        // Its time is judged below, by our clock; its audience by the role.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|_| invalid("The signature of the token does not hold"))?
            .claims;
        let (ends, now) = (claims.exp * 1000, self.clock.now());
        if now >= ends {
            return refuse(
                "ExpiredTokenException",
                format!(
                    "Token expired: current date/time {} must be before the expiration date/time {}",
                    now / 1000,
                    claims.exp
                ),
            );
        }
        Ok(claims)
    }

    fn trusts(&self, role: &str, claims: &Claims) -> bool {
        let Some(role) = self.roles.iter().find(|held| held.name == role) else { return false };
        let host = claims.iss.trim_start_matches("https://");
        let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{host}");
        let audiences = match &claims.aud {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        };
        audiences.iter().any(|audience| {
            let known: BTreeMap<String, String> =
                [(format!("{host}:aud"), audience.clone()), (format!("{host}:sub"), claims.sub.clone())]
                    .into();
            let wish = Wish {
                action: "sts:AssumeRoleWithWebIdentity",
                resource: "",
                federated: Some(&provider),
                known: &known,
            };
            allows(std::slice::from_ref(&role.trust), &wish)
        })
    }

    fn give(&mut self, role: String, name: String, lifetime: Millis) -> Session {
        let text = |len: usize| {
            let mut bytes = vec![0; len];
            getrandom::fill(&mut bytes).expect("the system has random numbers");
            hex(&bytes)
        };
        let issued = self.clock.now();
        // AWS counts ends in whole seconds.
        let ends = (issued + lifetime) / 1000 * 1000;
        let session = Session {
            role,
            name,
            access_key: format!("ASIA{}", text(8).to_uppercase()),
            secret: text(20),
            token: format!("IQoJ{}==", text(60)),
            issued,
            ends,
        };
        self.sessions.push(session.clone());
        session
    }
}

fn answer(session: &Session, claims: &Claims) -> String {
    let Session { role, name, access_key, secret, token, ends, .. } = session;
    let (ends, subject, issuer) = (moment(*ends), &claims.sub, &claims.iss);
    format!(
        r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>{subject}</SubjectFromWebIdentityToken>
    <AssumedRoleUser>
      <Arn>arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}</Arn>
      <AssumedRoleId>AROAEXAMPLE:{name}</AssumedRoleId>
    </AssumedRoleUser>
    <Provider>{issuer}</Provider>
    <Credentials>
      <AccessKeyId>{access_key}</AccessKeyId>
      <SecretAccessKey>{secret}</SecretAccessKey>
      <SessionToken>{token}</SessionToken>
      <Expiration>{ends}</Expiration>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata>
    <RequestId>{}</RequestId>
  </ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>
"#,
        uuid::Uuid::new_v4()
    )
}

/// How STS refuses.
pub(crate) fn refused(refusal: &Refusal) -> String {
    let Refusal { code, message, .. } = refusal;
    format!(
        r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error>
    <Type>Sender</Type>
    <Code>{code}</Code>
    <Message>{message}</Message>
  </Error>
  <RequestId>{}</RequestId>
</ErrorResponse>
"#,
        uuid::Uuid::new_v4()
    )
}
