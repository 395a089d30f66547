//! Access tokens: who has which, for what, until when.
//!
//! Invariant: a token is good until its time by the service's clock, or until it is revoked, and not a moment longer.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::status::Status;

/// The scope that allows everything.
pub const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What a token stands for.
#[derive(Clone, Serialize, Deserialize)]
pub struct Grant {
    pub member: String,
    pub scopes: Vec<String>,
    pub expires_at: i64,
}

/// All tokens that were issued.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Tokens(BTreeMap<String, Grant>);

impl Tokens {
    pub fn issue(&mut self, grant: Grant) -> String {
        let mut bytes = [0; 48];
        getrandom::fill(&mut bytes).unwrap();
        let token = format!("ya29.c.{}", URL_SAFE_NO_PAD.encode(bytes));
        self.0.insert(token.clone(), grant);
        token
    }

    /// Makes all of them worthless; how many there were.
    pub fn revoke(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }

    /// Who shows a token, where it is good for one of `scopes` of `service`.
    pub fn member(
        &self,
        token: Option<&str>,
        scopes: &[&str],
        service: &str,
        now: i64,
    ) -> Result<String, Status> {
        let token = token.ok_or_else(|| Status::unauthenticated("CREDENTIALS_MISSING"))?;
        let unknown = || Status::unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED");
        let grant = self.0.get(token).ok_or_else(unknown)?;
        if grant.expires_at <= now {
            return Err(Status::unauthenticated("ACCESS_TOKEN_EXPIRED"));
        }
        if !grant.scopes.iter().any(|scope| scope == CLOUD_PLATFORM || scopes.contains(&scope.as_str())) {
            return Err(Status::scope(service));
        }
        Ok(grant.member.clone())
    }
}
