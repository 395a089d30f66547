//! Work on a volume without Kubernetes: `mount`, `inspect`, `verify`, `rewrap`.
//!
//! Invariant: they take the same lease and keep the same rules as a sidecar; `inspect` and `verify` write nothing.

mod inspect;
mod mount;
mod progress;
mod rewrap;
mod verify;

use std::path::Path;
use std::sync::Arc;

use contract::exit;
use thiserror::Error;

pub use inspect::inspect;
pub use mount::{Manner, mount, mount_in_manner};
pub use rewrap::rewrap;
pub use verify::verify;

use crate::cli::{ProfileArgs, ProfileError, fail};
use crate::job::volume_code;
use crate::keys::RootKey;
use crate::profile;
use crate::serve::explain;
use crate::sweep::SweepError;
use crate::volume::{Purpose, Request, VolumeError};

/// Why an offline command ended badly.
#[derive(Debug, Error)]
enum OfflineError {
    /// The root key's profile.
    #[error("read the root key's profile")]
    Profile(#[from] ProfileError),
    /// The root key's profile.
    #[error("use the root key's profile")]
    Config(#[from] kms::ConfigError),
    /// The volume.
    #[error("open the volume")]
    Volume(#[from] VolumeError),
    /// The current version.
    #[error("ask for the current key version")]
    Describe(#[source] crate::keys::KeyError),
    /// The sweep.
    #[error("sweep the volume")]
    Sweep(#[from] SweepError),
    /// The runtime, a thread, a signal.
    #[error("start")]
    Start(#[source] std::io::Error),
    /// The filesystem.
    #[error("serve the volume: {0}")]
    Serve(String),
    /// The mount.
    #[error("mount the volume")]
    Mount(#[source] std::io::Error),
    /// The file.
    #[error("read the file")]
    Read(#[source] std::io::Error),
    /// The file.
    #[error("understand the file's header")]
    Header(#[source] envelope::HeaderError),
}

impl OfflineError {
    fn code(&self) -> i32 {
        match self {
            Self::Profile(_) | Self::Config(_) => exit::CONFIG,
            Self::Volume(error) | Self::Sweep(SweepError::Volume(error)) => volume_code(error),
            Self::Describe(error) | Self::Sweep(SweepError::Refused(error)) if error.is_refusal() => {
                exit::REFUSED
            }
            Self::Describe(error) if error.is_outage() => exit::UNAVAILABLE,
            Self::Sweep(SweepError::Cancelled) => exit::INCOMPLETE,
            Self::Header(_) => exit::DATA,
            _ => exit::FAILURE,
        }
    }
}

/// The exit code of a command that ended with `result`.
fn finish(result: Result<i32, OfflineError>) -> i32 {
    result.unwrap_or_else(|error| fail(error.code(), &explain(&error)))
}

fn root_key(args: &ProfileArgs) -> Result<Arc<RootKey>, OfflineError> {
    Ok(profile::connect(&args.profile()?, args.transport(), profile::Told::default())?)
}

fn request(path: &Path, purpose: Purpose, storage_entries: &[String]) -> Request {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Request {
        path: path.into(),
        purpose,
        holder: format!("process {} on {}", std::process::id(), host.trim()),
        storage_entries: storage_entries.to_vec(),
        pinned: None,
        ownership: envelope::Ownership::Native,
        strict: false,
        seal: false,
    }
}
