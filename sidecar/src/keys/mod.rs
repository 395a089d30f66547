//! The keys of a volume: from the root key in the KMS down to the DEK of a file.
//!
//! Invariant: a plaintext key is in memory only while the volume may serve, and is zeroized when it is dropped.

mod access;
mod direct;
mod error;
mod group_records;
mod groups;
mod root;
mod seam;
mod volume_keys;
mod watch;

pub use access::{Access, Machine, Why};
pub use direct::NewKey;
pub use error::KeyError;
pub use group_records::read_record;
pub use groups::is_retired;
pub use root::{RootKey, Unwrapped};
pub use seam::BlockingKeys;
pub use volume_keys::{KeySetup, OpenedKey, VolumeKeys};
pub use watch::{KeyWatch, Seen};

#[cfg(test)]
mod tests;
