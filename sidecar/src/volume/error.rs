//! Why a volume is not open.
//!
//! Invariant: whatever stops the opening, the volume is left as it was found.

use std::io;

use contract::check_in::reasons;
use thiserror::Error;

use crate::keys::KeyError;

/// A failed step of opening a volume.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// The raw directory cannot be opened or read.
    #[error("read the volume: {0}")]
    Read(#[source] io::Error),
    /// The identity of this process may not write the volume's root.
    #[error(
        "write the volume: its root has uid {uid}, gid {gid}, mode {mode:04o}, and this process is uid {own_uid}, gid {own_gid}, \
         groups {groups:?}; let the pod's fsGroup own the volume"
    )]
    NotWritable {
        /// Owner of the root.
        uid: u32,
        /// Group of the root.
        gid: u32,
        /// Permission bits of the root.
        mode: u32,
        /// Effective uid of this process.
        own_uid: u32,
        /// Effective gid of this process.
        own_gid: u32,
        /// Supplementary groups of this process.
        groups: Vec<u32>,
    },
    /// The volume is mounted read-only and must be written.
    #[error("write the volume: it is mounted read-only")]
    ReadOnly,
    /// Somebody else serves it.
    #[error("take the volume's lease: {holder} has it")]
    InUse {
        /// What the lease's record says.
        holder: String,
    },
    /// There are entries and no marker.
    #[error("initialise the volume: it holds {entries} that no Cofferdam volume has, and is left untouched")]
    Plaintext {
        /// How many, in words that name no file.
        entries: String,
    },
    /// It must be read and was never initialised.
    #[error("read the volume: it was never initialised, and may not be written")]
    NeverInitialised,
    /// Our own files are there, the marker is not.
    #[error("open the volume: its marker is missing")]
    MarkerMissing,
    /// The marker is not what the format allows.
    #[error("read the volume's marker")]
    Marker(#[source] envelope::HeaderError),
    /// The marker is of another volume.
    #[error("open the volume: it is {found}, and volume {pinned} was here before")]
    WrongVolume {
        /// What the marker says.
        found: envelope::VolumeId,
        /// What was pinned.
        pinned: String,
    },
    /// The pinned volume was here before and the volume is empty now.
    #[error("open the volume: volume {pinned} was here before, and it is empty now")]
    Vanished {
        /// What was pinned.
        pinned: String,
    },
    /// The marker wants ownership that this process cannot give.
    #[error("serve native ownership: this process is not root")]
    NeedsRoot,
    /// The marker's key.
    #[error("open the volume's marker")]
    Key(#[from] KeyError),
    /// One of our own files.
    #[error("write the volume's {what}")]
    Own {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// The PascalCase word for check-ins.
    pub fn reason(&self) -> &'static str {
        use envelope::HeaderError::{UnknownFeature, UnsupportedVersion};
        match self {
            Self::Read(_) => reasons::VOLUME_UNREADABLE,
            Self::NotWritable { .. } | Self::ReadOnly | Self::NeedsRoot | Self::NeverInitialised => {
                reasons::NOT_WRITABLE
            }
            Self::InUse { .. } => reasons::VOLUME_IN_USE,
            Self::Plaintext { .. } => reasons::PLAINTEXT_FOUND,
            Self::Marker(UnsupportedVersion { .. } | UnknownFeature { .. }) => reasons::UNKNOWN_FORMAT,
            Self::Marker(_) | Self::MarkerMissing => reasons::MARKER_DAMAGED,
            Self::WrongVolume { .. } | Self::Vanished { .. } => reasons::WRONG_VOLUME,
            Self::Key(error) => error.reason(),
            Self::Own { source, .. } if source.kind() == io::ErrorKind::StorageFull => "VolumeFull",
            Self::Own { .. } => "VolumeIo",
        }
    }

    /// Trying again may help without anybody doing something to the volume.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::Read(_) | Self::Own { .. } => true,
            Self::Key(error) => error.is_outage(),
            _ => false,
        }
    }

    /// The root key is refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Key(error) if error.is_refusal())
    }

    /// The text for a person, with the causes.
    pub fn explain(&self) -> String {
        crate::serve::explain(self)
    }
}
