//! Trusted profiles: a Kubernetes service account token stands for an IAM identity. Invariant: a token counts only if its
//! signature, issuer, audience, time and subject all match what the profile names.

use std::path::PathBuf;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// A trusted profile and the compute resource tokens that may use it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrustedProfile {
    /// `Profile-<uuid>`.
    pub id: String,
    pub name: String,
    /// Required `iss` of the token; not looked at where absent.
    pub issuer: Option<String>,
    /// One of these must be in `aud`; not looked at where empty.
    pub audiences: Vec<String>,
    /// `system:serviceaccount:<namespace>:<name>`, each with an optional `*` at its end; every subject where empty.
    pub subjects: Vec<String>,
    /// The issuer's keys as a JWK set.
    pub jwks: Option<serde_json::Value>,
    /// A file with a JWK set, read anew for every token.
    pub jwks_file: Option<PathBuf>,
    /// The issuer's public key, PEM (RSA or EC).
    pub public_key: Option<String>,
    /// A file with the issuer's public key, PEM, read anew for every token.
    pub public_key_file: Option<PathBuf>,
}

/// Why a service account token does not stand for the profile.
#[derive(Debug, thiserror::Error)]
pub enum ServiceAccountError {
    #[error("read the issuer's key file")]
    KeyFile(#[source] std::io::Error),
    #[error("understand the issuer's keys")]
    Keys,
    #[error("find the token's key among the issuer's")]
    NoKey,
    #[error("verify the token")]
    Verify(#[source] jsonwebtoken::errors::Error),
    #[error("match the token's subject with the profile")]
    Subject,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl TrustedProfile {
    /// Verifies a service account token by the machine's time and returns its subject.
    pub fn verify(&self, token: &str) -> Result<String, ServiceAccountError> {
        let header = jsonwebtoken::decode_header(token).map_err(ServiceAccountError::Verify)?;
        let (key, algorithm) = self.key(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = 5;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if self.audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&self.audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(ServiceAccountError::Verify)?
            .claims;
        if self.subjects.is_empty() || self.subjects.iter().any(|pattern| matches(pattern, &claims.sub)) {
            Ok(claims.sub)
        } else {
            Err(ServiceAccountError::Subject)
        }
    }

    fn key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(DecodingKey, Algorithm), ServiceAccountError> {
        // A symmetric algorithm would turn a public key into a shared secret.
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(ServiceAccountError::NoKey);
        }
        if let Some(pem) = self.pem()? {
            let key = DecodingKey::from_rsa_pem(pem.as_bytes())
                .or_else(|_| DecodingKey::from_ec_pem(pem.as_bytes()))
                .map_err(|_| ServiceAccountError::Keys)?;
            return Ok((key, algorithm));
        }
        let set = self.jwk_set()?;
        let jwk = match kid {
            Some(kid) => set.find(kid),
            None => set.keys.first(),
        };
        let key = DecodingKey::from_jwk(jwk.ok_or(ServiceAccountError::NoKey)?)
            .map_err(|_| ServiceAccountError::Keys)?;
        Ok((key, algorithm))
    }

    fn pem(&self) -> Result<Option<String>, ServiceAccountError> {
        match (&self.public_key, &self.public_key_file) {
            (Some(pem), _) => Ok(Some(pem.clone())),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map(Some).map_err(ServiceAccountError::KeyFile)
            }
            (None, None) => Ok(None),
        }
    }

    fn jwk_set(&self) -> Result<JwkSet, ServiceAccountError> {
        let value = match (&self.jwks, &self.jwks_file) {
            (Some(value), _) => value.clone(),
            (None, Some(path)) => {
                let text = std::fs::read(path).map_err(ServiceAccountError::KeyFile)?;
                serde_json::from_slice(&text).map_err(|_| ServiceAccountError::Keys)?
            }
            (None, None) => return Err(ServiceAccountError::NoKey),
        };
        serde_json::from_value(value).map_err(|_| ServiceAccountError::Keys)
    }
}

fn matches(pattern: &str, subject: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == subject, |prefix| subject.starts_with(prefix))
}
