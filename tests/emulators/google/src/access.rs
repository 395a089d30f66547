//! Who may do what: roles that are bound to resources, for principals.
//!
//! Invariant: a role on a resource holds for all that lies below it, and for nothing else.

use serde::{Deserialize, Serialize};

/// Encrypts and decrypts.
pub const ENCRYPTER_DECRYPTER: &str = "roles/cloudkms.cryptoKeyEncrypterDecrypter";
/// Reads metadata.
pub const VIEWER: &str = "roles/cloudkms.viewer";
/// Does everything but encrypt and decrypt.
pub const ADMIN: &str = "roles/cloudkms.admin";
/// May speak for a service account.
pub const WORKLOAD_IDENTITY_USER: &str = "roles/iam.workloadIdentityUser";

const READING: [&str; 6] = [
    "cloudkms.keyRings.get",
    "cloudkms.keyRings.list",
    "cloudkms.cryptoKeys.get",
    "cloudkms.cryptoKeys.list",
    "cloudkms.cryptoKeyVersions.get",
    "cloudkms.cryptoKeyVersions.list",
];

const CHANGING: [&str; 7] = [
    "cloudkms.keyRings.create",
    "cloudkms.cryptoKeys.create",
    "cloudkms.cryptoKeys.update",
    "cloudkms.cryptoKeyVersions.create",
    "cloudkms.cryptoKeyVersions.update",
    "cloudkms.cryptoKeyVersions.destroy",
    "cloudkms.cryptoKeyVersions.restore",
];

/// A role of a principal on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub resource: String,
    pub role: String,
    pub member: String,
}

impl Binding {
    pub fn allows(&self, member: &str, permission: &str, resource: &str) -> bool {
        let below = resource
            .strip_prefix(&self.resource)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.member == member && below && grants(&self.role, permission)
    }
}

fn grants(role: &str, permission: &str) -> bool {
    match role {
        ENCRYPTER_DECRYPTER => {
            ["cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"]
                .contains(&permission)
        }
        VIEWER => READING.contains(&permission),
        ADMIN => READING.contains(&permission) || CHANGING.contains(&permission),
        WORKLOAD_IDENTITY_USER => permission == "iam.serviceAccounts.getAccessToken",
        _ => false,
    }
}
