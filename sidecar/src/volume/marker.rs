//! The volume's marker on disk: made once, opened at each start, its key slots replaced by a rewrap.
//!
//! Invariant: it appears whole or not at all (written beside, then renamed); a slot is replaced only while the other one
//! is durable.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use envelope::{Dek, KeySlot, KmsContext, MarkerOptions, MarkerRegion, VolumeId, VolumeMarker, WrappedKey};
use kms::CallCtx;
use rustix::fs::{Mode, OFlags, renameat};

use super::error::VolumeError;
use super::names;
use super::raw::open_file;
use crate::keys::{KeyError, RootKey};

/// More than the largest region has.
const MOST: usize = 16 * envelope::PAGE;

/// Reads and parses the marker.
pub fn read(dir: BorrowedFd<'_>) -> Result<MarkerRegion, VolumeError> {
    let opened = open_file(dir, names::MARKER, OFlags::RDONLY, Mode::empty());
    let file = opened.map_err(|error| own(error.into()))?;
    parse(&file)
}

fn parse(file: &File) -> Result<MarkerRegion, VolumeError> {
    let mut bytes = vec![0; MOST];
    let mut len = 0;
    while len < MOST {
        match file.read_at(&mut bytes[len..], len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(VolumeError::Read(error)),
        }
    }
    let truncated = envelope::HeaderError::Truncated { have: len, need: envelope::PAGE };
    MarkerRegion::parse(&bytes[..len]).map_err(VolumeError::Marker)?.ok_or(VolumeError::Marker(truncated))
}

/// Makes the marker of a new volume: its DEK is wrapped by `root_key`, and the volume id is drawn here.
pub async fn create(
    dir: BorrowedFd<'_>,
    root_key: &RootKey,
    options: MarkerOptions,
) -> Result<MarkerRegion, VolumeError> {
    let dek = Dek::generate().map_err(KeyError::from)?;
    let volume = VolumeId::generate().map_err(KeyError::from)?;
    let context = KmsContext::volume_marker(volume);
    let wrapped = root_key.wrap(dek.expose(), &context, &CallCtx::new()).await?;
    let slot = KeySlot::first(vec![wrapped], true).map_err(KeyError::from)?;
    let region = MarkerRegion::create(VolumeMarker::create(&dek, volume, options), slot);
    let bytes = region.encode().map_err(KeyError::from)?;
    write_new(dir, &bytes).map_err(own)?;
    Ok(region)
}

fn write_new(dir: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = open_file(dir, names::MARKER_NEW, flags, Mode::RUSR | Mode::WUSR)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    renameat(dir, names::MARKER_NEW, dir, names::MARKER)?;
    rustix::fs::fsync(dir)?;
    Ok(())
}

/// A marker whose key the KMS gave: the root key is usable, and it is this volume's.
#[derive(Debug)]
pub struct Unlocked {
    /// Which of the current slot's keys opened it.
    pub index: usize,
    /// That key under the current root key version, where the KMS gave it with the unwrap.
    pub rewrapped: Option<WrappedKey>,
}

/// Unwraps the marker's DEK and verifies it. With `call.fresh` it is the proof that the root key may be used now.
pub async fn unlock(region: &MarkerRegion, root_key: &RootKey, call: &CallCtx) -> Result<Unlocked, KeyError> {
    let (_, slot) = region.current()?;
    let context = KmsContext::volume_marker(region.marker().volume_id());
    let mut last = KeyError::NotOurs;
    for (index, key) in slot.keys().iter().enumerate().filter(|(_, key)| root_key.wrapped(key)) {
        match root_key.unwrap(key, &context, call).await {
            Ok(unwrapped) => match region.marker().verify(&unwrapped.dek()) {
                Ok(()) => return Ok(Unlocked { index, rewrapped: unwrapped.rewrapped }),
                Err(error) => last = error.into(),
            },
            // What the KMS says about the root key itself holds for every other blob too.
            Err(error) if error.is_refusal() || error.is_outage() => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn own(source: io::Error) -> VolumeError {
    VolumeError::Own { what: "marker", source }
}
