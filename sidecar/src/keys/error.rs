//! Why a key is not at hand.
//!
//! Invariant: an outage, a refusal and a wrong key are three different things, and stay so.

use envelope::VolumeId;
use thiserror::Error;

/// A failed step on the way to a key.
#[derive(Clone, Debug, Error)]
pub enum KeyError {
    /// The KMS was asked and did not help.
    #[error("ask the kms")]
    Kms(#[from] kms::KmsError),
    /// The header has no key of this volume's root key.
    #[error("find a wrapped key of the configured root key")]
    NotOurs,
    /// The header was made in a volume that the binding does not accept.
    #[error("accept a file of volume {0}")]
    Origin(VolumeId),
    /// The key opened and is not the one that the header commits to, or the header was changed.
    #[error("verify the key against the header")]
    Header(#[from] envelope::HeaderError),
    /// The group key does not open the file's DEK.
    #[error("unwrap the data key with its group key")]
    Local(#[from] envelope::LocalWrapError),
    /// The KMS's answer does not fit the format.
    #[error("store the wrapped key")]
    Format(#[from] envelope::WrappedKeyError),
    /// The header's slots cannot be written.
    #[error("make the key slot")]
    Slot(#[from] envelope::SlotError),
    /// A group's record cannot be used.
    #[error("use the group record")]
    Group(#[from] envelope::GroupRecordError),
    /// No random numbers.
    #[error("draw a key")]
    Random(#[from] envelope::RandomError),
    /// The volume's own files cannot be read or written.
    #[error("keep the group record: {0}")]
    Io(std::io::ErrorKind),
    /// Keys are withheld: the root key is refused.
    #[error("use the root key: {0}")]
    Suspended(&'static str),
    /// No keys are made any more: another process has the volume.
    #[error("make a key: another process has the volume")]
    Ended,
    /// Keys are withheld: the KMS gave no answer for longer than keys may live.
    #[error("reach the kms in time: {0}")]
    Unreachable(&'static str),
}

impl KeyError {
    /// The KMS itself said no.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Suspended(_)) || matches!(self, Self::Kms(error) if error.is_refusal())
    }

    /// Nothing is known about the key: asking again may help.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // A denial that is not confirmed, a rejected credential: no answer about the key itself.
            Self::Kms(error) => {
                use kms::ErrorKind::{CredentialRejected, CredentialUnreadable, Denied};
                let unheard = matches!(
                    error.kind,
                    CredentialRejected | CredentialUnreadable | Denied { confirmed: false }
                );
                error.is_outage() || unheard
            }
            _ => false,
        }
    }

    /// A PascalCase word for check-ins and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kms(error) => error.reason(),
            Self::Suspended(reason) | Self::Unreachable(reason) => reason,
            Self::NotOurs => "RootKeyUnknown",
            Self::Origin(_) => "OriginNotAccepted",
            Self::Header(envelope::HeaderError::WrongKey) | Self::Local(_) => "KeyMismatch",
            Self::Header(_) | Self::Slot(_) | Self::Format(_) => "HeaderDamaged",
            Self::Group(_) => "GroupRecordDamaged",
            Self::Random(_) => "NoRandomNumbers",
            Self::Io(_) => "VolumeIo",
            Self::Ended => contract::check_in::reasons::VOLUME_IN_USE,
        }
    }
}

impl From<std::io::Error> for KeyError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms::{ErrorKind, KmsError, Op, Outage};

    #[test]
    fn asking_again_helps_after_an_outage_or_with_another_credential_and_never_against_an_answer() {
        let outage = |kind| KeyError::Kms(KmsError::new(kind, "keyProtect", Op::Wrap)).is_outage();
        assert!(outage(ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None }));
        assert!(outage(ErrorKind::Denied { confirmed: false }));
        assert!(outage(ErrorKind::CredentialRejected) && outage(ErrorKind::CredentialUnreadable));
        assert!(!outage(ErrorKind::Denied { confirmed: true }));
        assert!(!outage(ErrorKind::KeyExpired) && !outage(ErrorKind::Config(String::new())));
    }
}
