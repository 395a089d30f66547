//! Why an operation of the filesystem failed, and the errno that the application sees.
//!
//! Invariant: an error carries no name, no path and no data; `ENOSYS` never leaves the filesystem, because the kernel would
//! take it for "not implemented, done" for ever after.

use envelope::{CipherError, HeaderError, SealError};
use rustix::io::Errno;
use thiserror::Error;

use super::keys::KeyFailure;
use crate::sweep::region_file::RegionError;

/// A failed operation.
#[derive(Clone, Copy, Debug, Error)]
pub enum FsError {
    /// The backing storage said no.
    #[error("use the backing storage: {0}")]
    Backing(Errno),
    /// A rule of this filesystem said no.
    #[error("do what was asked: {0}")]
    Refused(Errno),
    /// There is no key.
    #[error("get the file's key")]
    Key(#[from] KeyFailure),
    /// Data is not served now: the root key is refused.
    #[error("serve data: suspended")]
    Suspended,
    /// The header is not what the format allows.
    #[error("read the file's header")]
    Header(#[source] HeaderError),
    /// A block does not open, or was not sealed.
    #[error("open or seal a block")]
    Block(#[source] CipherError),
    /// A zeroed block before the end of a file of a strict volume.
    #[error("read block {0}: it is zeroed, on a strict volume")]
    Zeroed(u64),
    /// The seal of a file is missing, or was changed by somebody without the key.
    #[error("read the file's seal")]
    Seal(#[source] SealError),
    /// The file was left with another size than it has.
    #[error("open the file: it was left with {sealed} bytes, and has {found}")]
    Size {
        /// Bytes that it was left with.
        sealed: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// A key slot could not be replaced.
    #[error("write the file's header")]
    HeaderWrite,
}

impl FsError {
    /// The errno for the application, positive.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            // The kernel must not conclude that an operation does not exist.
            Self::Backing(Errno::NOSYS) | Self::Refused(Errno::NOSYS) => Errno::OPNOTSUPP,
            Self::Backing(errno) | Self::Refused(errno) => *errno,
            Self::Suspended | Self::Key(KeyFailure::Suspended) => Errno::NOKEY,
            Self::Key(KeyFailure::Unreachable) => Errno::TIMEDOUT,
            Self::Key(KeyFailure::NotAccepted) => Errno::ACCESS,
            Self::Key(KeyFailure::Rejected) => Errno::KEYREJECTED,
            Self::Header(HeaderError::UnsupportedVersion { .. } | HeaderError::UnknownFeature { .. }) => {
                Errno::OPNOTSUPP
            }
            Self::Key(KeyFailure::Failed)
            | Self::Header(_)
            | Self::Block(_)
            | Self::Zeroed(_)
            | Self::Seal(_)
            | Self::Size { .. }
            | Self::HeaderWrite => Errno::IO,
        };
        errno.raw_os_error()
    }

    /// Whether a person should hear of it: damage, not an ordinary refusal.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Header(_) | Self::Block(_) | Self::Zeroed(_) | Self::Seal(_) | Self::Size { .. } => true,
            Self::Key(failure) => *failure == KeyFailure::Rejected,
            Self::Backing(_) | Self::Refused(_) | Self::Suspended | Self::HeaderWrite => false,
        }
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        Self::Backing(errno)
    }
}

impl From<RegionError> for FsError {
    fn from(error: RegionError) -> Self {
        match error {
            RegionError::Io(error) => error.into(),
            RegionError::Header(error) => Self::Header(error),
            RegionError::Slot(_) | RegionError::Locked | RegionError::NotAsWritten => Self::HeaderWrite,
        }
    }
}

impl From<std::io::Error> for FsError {
    fn from(error: std::io::Error) -> Self {
        Self::Backing(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl From<CipherError> for FsError {
    fn from(error: CipherError) -> Self {
        Self::Block(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_a_refusal_and_a_wrong_key_are_three_errnos() {
        let errno = |failure| FsError::Key(failure).errno();
        assert_eq!(errno(KeyFailure::Suspended), libc::ENOKEY);
        assert_eq!(errno(KeyFailure::Unreachable), libc::ETIMEDOUT);
        assert_eq!(errno(KeyFailure::Rejected), libc::EKEYREJECTED);
        assert_eq!(FsError::Suspended.errno(), libc::ENOKEY);
    }

    #[test]
    fn no_error_becomes_enosys() {
        assert_eq!(FsError::Backing(Errno::NOSYS).errno(), libc::EOPNOTSUPP);
        assert_eq!(FsError::Refused(Errno::NOSYS).errno(), libc::EOPNOTSUPP);
    }
}
