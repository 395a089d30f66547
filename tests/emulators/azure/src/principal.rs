//! Who may call: applications, how they prove who they are, and what they may do. Invariant: an application that nobody gave
//! anything may do nothing.

use std::collections::BTreeSet;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

/// What Entra wants as the audience of a foreign token.
const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";

/// A thing that the vault lets do, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Read keys, their versions and deleted keys.
    Read,
    /// Wrap.
    Wrap,
    /// Unwrap.
    Unwrap,
    /// Make a key or a version of it.
    Create,
    /// Change attributes.
    Update,
    /// Delete.
    Delete,
    /// Take a deletion back.
    Recover,
    /// Delete for good.
    Purge,
    /// Rotate.
    Rotate,
    /// Read the rotation policy.
    ReadPolicy,
    /// Change the rotation policy.
    SetPolicy,
}

impl Permission {
    /// Each of them.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Wrap,
        Self::Unwrap,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Recover,
        Self::Purge,
        Self::Rotate,
        Self::ReadPolicy,
        Self::SetPolicy,
    ];

    /// What the role "Key Vault Crypto Service Encryption User" allows.
    pub const SERVICE_ENCRYPTION: [Self; 3] = [Self::Read, Self::Wrap, Self::Unwrap];

    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Read => "Microsoft.KeyVault/vaults/keys/read",
            Self::Wrap => "Microsoft.KeyVault/vaults/keys/wrap/action",
            Self::Unwrap => "Microsoft.KeyVault/vaults/keys/unwrap/action",
            Self::Create => "Microsoft.KeyVault/vaults/keys/create/action",
            Self::Update => "Microsoft.KeyVault/vaults/keys/update/action",
            Self::Delete => "Microsoft.KeyVault/vaults/keys/delete",
            Self::Recover => "Microsoft.KeyVault/vaults/keys/recover/action",
            Self::Purge => "Microsoft.KeyVault/vaults/keys/purge/action",
            Self::Rotate => "Microsoft.KeyVault/vaults/keys/rotate/action",
            Self::ReadPolicy => "Microsoft.KeyVault/vaults/keyrotationpolicies/read",
            Self::SetPolicy => "Microsoft.KeyVault/vaults/keyrotationpolicies/write",
        }
    }
}

/// An application of the tenant.
#[derive(Clone, Debug, Default)]
pub struct Application {
    /// Its client id.
    pub client_id: String,
    /// Its secrets: each is as good as the others.
    pub secrets: Vec<String>,
    /// The foreign tokens that stand for it.
    pub federated: Vec<FederatedCredential>,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
}

/// A foreign token that stands for an application.
#[derive(Clone, Debug)]
pub struct FederatedCredential {
    /// Required `iss`.
    pub issuer: String,
    /// Required `sub`.
    pub subject: String,
    /// The issuer's keys, as a JWK set. (The real service fetches them from the issuer.)
    pub jwks: Value,
}

/// Why a foreign token does not stand for the application, as Entra numbers it.
pub(crate) type Refused = (u32, &'static str);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
}

impl Application {
    /// One with a secret.
    pub fn new(client_id: &str, secret: &str, permissions: &[Permission]) -> Self {
        Self {
            client_id: client_id.into(),
            secrets: vec![secret.into()],
            federated: Vec::new(),
            permissions: permissions.iter().copied().collect(),
        }
    }

    /// Verifies a foreign token by the machine's time: its issuer knows no other.
    pub(crate) fn accept(&self, token: &str) -> Result<(), Refused> {
        let mut refused = (70_021, "No matching federated identity record found for presented assertion.");
        for credential in &self.federated {
            match credential.accept(token) {
                Ok(()) => return Ok(()),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }
}

impl FederatedCredential {
    fn accept(&self, token: &str) -> Result<(), Refused> {
        let malformed = (50_027, "JWT token is invalid or malformed.");
        let signature = (700_027, "Client assertion failed signature validation.");
        let header = jsonwebtoken::decode_header(token).map_err(|_| malformed)?;
        if header.alg != Algorithm::RS256 {
            return Err(signature);
        }
        let keys: JwkSet = serde_json::from_value(self.jwks.clone()).unwrap();
        let key = header.kid.and_then(|kid| keys.find(&kid).cloned()).ok_or(signature)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 5;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        let key = DecodingKey::from_jwk(&key).unwrap();
        let claims =
            jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                    (700_024, "Client assertion is not within its valid time range.")
                }
                _ => signature,
            })?;
        let Claims { iss, sub, aud } = claims.claims;
        if iss != self.issuer {
            return Err((
                700_211,
                "No matching federated identity record found for presented assertion issuer.",
            ));
        }
        if sub != self.subject {
            return Err((
                700_213,
                "No matching federated identity record found for presented assertion subject.",
            ));
        }
        let meant = aud == EXCHANGE_AUDIENCE
            || aud.as_array().is_some_and(|all| all.contains(&EXCHANGE_AUDIENCE.into()));
        if meant {
            Ok(())
        } else {
            Err((700_212, "No matching federated identity record found for presented assertion audience."))
        }
    }
}
