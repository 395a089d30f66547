//! Where the secret of a credential comes from: a file that may change at any time, or a caller's hand.
//!
//! Invariant: text without surrounding white space, never empty.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::ErrorKind;
use crate::http::watched::{Stamp, WatchedFile};

/// A secret's place.
pub(crate) enum SecretSource {
    /// In a file.
    File(WatchedFile),
    /// Given once; whoever gave it connects anew when it changes.
    Given(SecretString),
}

/// A secret as it was read, and what is needed to see later that it changed.
pub(crate) struct ReadSecret {
    pub(crate) text: Zeroizing<String>,
    /// SHA-256 of the secret.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) stamp: Option<Stamp>,
}

impl SecretSource {
    /// With `given`, the file is not touched.
    pub(crate) fn new(path: &str, given: Option<SecretString>) -> Self {
        given.map_or_else(|| Self::File(WatchedFile::new(path)), Self::Given)
    }

    /// The secret as it is now.
    pub(crate) async fn read(&self) -> Result<ReadSecret, ErrorKind> {
        let (text, stamp) = match self {
            Self::Given(secret) => (Zeroizing::new(secret.expose_secret().trim().to_owned()), None),
            Self::File(file) => {
                let (content, stamp) = file.read().await.map_err(|_| ErrorKind::CredentialUnreadable)?;
                let text = std::str::from_utf8(&content).map_err(|_| ErrorKind::CredentialUnreadable)?;
                (Zeroizing::new(text.trim().to_owned()), Some(stamp))
            }
        };
        if text.is_empty() {
            return Err(ErrorKind::CredentialUnreadable);
        }
        let fingerprint = Sha256::digest(text.as_bytes()).into();
        Ok(ReadSecret { text, fingerprint, stamp })
    }

    /// The file is another one than the one that `seen` was taken of.
    pub(crate) async fn changed_since(&self, seen: Option<&Stamp>) -> bool {
        match (self, seen) {
            (Self::File(file), Some(seen)) => file.changed_since(seen).await,
            _ => false,
        }
    }
}
