//! Headers and keys of open files.
//!
//! Invariant: a header is written once, when the file gets its first byte; afterwards only its inactive key slot is, and
//! that by [`crate::sweep::region_file`], under the lock that a sweep takes too.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use envelope::{FileDek, Geometry, HeaderRegion, KeySlot, Preamble, Seal};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::FsError;
use super::inode::Inode;
use super::key_cell::FileKey;
use super::keys::{KeyFailure, NewFile};
use super::open_file::OpenFile;
use super::types::Options;
use super::{Counters, EncryptedFs, proc_path};
use crate::sweep::region_file::{self, Durability};

impl EncryptedFs {
    /// The key of a file; `None` if it has no header. Waits for the key store where the key is not here or is stale.
    pub(super) fn key(&self, inode: &Inode, open: &OpenFile) -> Result<Option<Arc<FileKey>>, FsError> {
        self.key_or(inode, open, || self.fetch(inode, open))
    }

    /// The key of a file that will be written; makes a header if it has none.
    pub(super) fn key_for_writing(&self, inode: &Inode, open: &OpenFile) -> Result<Arc<FileKey>, FsError> {
        let key = self.key_or(inode, open, || match self.fetch(inode, open)? {
            Some(key) => Ok(Some(key)),
            None => self.create_header(inode, open).map(Some),
        })?;
        writable(key.ok_or(FsError::Refused(Errno::IO))?)
    }

    /// The key of an open file, or what `fetch` gets.
    fn key_or(
        &self,
        inode: &Inode,
        open: &OpenFile,
        fetch: impl FnOnce() -> Result<Option<FileKey>, FsError>,
    ) -> Result<Option<Arc<FileKey>>, FsError> {
        self.keys.permit()?;
        if let Some(key) = open.key.good(|key| self.is_fresh(key)) {
            return Ok(Some(key));
        }
        let result = self.waiting(|| open.key.get(|key| self.is_fresh(key), fetch));
        if let Err(FsError::Key(KeyFailure::Unreachable)) = result {
            // No answer says nothing about the key that is here: it goes, if it must, when keys may not be used any more.
            self.keys.permit()?;
            if let Some(key) = open.key.put_off() {
                return Ok(Some(key));
            }
        }
        self.counted(inode, result)
    }

    fn is_fresh(&self, key: &FileKey) -> bool {
        !self.keys.is_stale(key.since)
    }

    fn fetch(&self, inode: &Inode, open: &OpenFile) -> Result<Option<FileKey>, FsError> {
        let since = Instant::now();
        let file = open.for_reading();
        let Some(region) = header_of(&file)? else {
            if inode.size() != Some(0) {
                // A crash came between a file's first bytes and its header.
                Counters::add(&self.counters.headerless, 1);
                inode.set_size(0);
            }
            return Ok(None);
        };
        // Without a slot there is nothing to ask for.
        region.current().map_err(FsError::Header)?;
        let opened = self.keys.open(&region)?;
        let key = self.file_key(&opened.dek, region.preamble(), since)?;
        if let Some(seal) = &key.seal {
            self.check_seal(inode, open, &file, seal)?;
        }
        if let Some(slot) = opened.upgrade {
            self.upgrade(inode, open, &region, slot);
        }
        Ok(Some(key))
    }

    fn file_key(&self, dek: &FileDek, preamble: &Preamble, since: Instant) -> Result<FileKey, FsError> {
        let geometry = self.check_geometry(preamble)?;
        let cipher = dek.cipher().map_err(FsError::Header)?;
        let (may_write, seal) = (preamble.check_writable().is_ok(), dek.seal_key());
        Ok(FileKey { cipher, geometry, since, may_write, seal })
    }

    /// Sizes are read without the header, by the volume's geometry: a file of another one cannot be served.
    fn check_geometry(&self, preamble: &Preamble) -> Result<Geometry, FsError> {
        let geometry = preamble.geometry();
        if geometry == self.options.geometry { Ok(geometry) } else { Err(FsError::Refused(Errno::OPNOTSUPP)) }
    }

    /// Fails if a file's header says that this program may not change the file, or if what is there is no header. Whether
    /// there is one, and whether it says that the file has a seal. Needs no key, so it says nothing about who wrote the header.
    pub(super) fn check_header(&self, file: &File) -> Result<Option<HasSeal>, FsError> {
        let Some(region) = header_of(file)? else { return Ok(None) };
        self.check_geometry(region.preamble())?;
        match region.preamble().check_writable() {
            Ok(()) => Ok(Some(HasSeal(region.preamble().has_seal()))),
            Err(_) => Err(FsError::Refused(Errno::ROFS)),
        }
    }

    /// Writes the header of a file that gets its first byte.
    fn create_header(&self, inode: &Inode, open: &OpenFile) -> Result<FileKey, FsError> {
        let since = Instant::now();
        let file = open.for_writing().ok_or(FsError::Refused(Errno::BADF))?;
        // From the choice of a key version until it can be read in the header.
        let _under_way = self.under_way.begin();
        let NewFile { file: id, dek, slot } = self.keys.create()?;
        let Options { volume, geometry, seal, .. } = self.options;
        let (preamble, dek) = FileDek::create(dek, id, volume, geometry, seal);
        let key = self.file_key(&dek, &preamble, since)?;
        let mut region = HeaderRegion::create(preamble, slot);
        if let Some(seal) = &key.seal {
            region = region.with_seal(seal, Seal::Open);
        }
        let bytes = region.encode().map_err(|_| FsError::HeaderWrite)?;
        // Nobody cuts the file to nothing meanwhile: what they measured would take the header away again.
        let _held = open.ranges.hold_from(0);
        if file.metadata()?.len() > 0 {
            // A header that is there is never written over, whoever made it: nothing else opens the blocks behind it.
            if header_of(&file)?.is_some() {
                return Err(FsError::HeaderWrite);
            }
            // Blocks behind a header that was never written belong to no key.
            file.set_len(0)?;
        }
        file.write_all_at(&bytes, 0).inspect_err(|_| drop(file.set_len(0)))?;
        inode.set_size(0);
        if key.seal.is_some() {
            inode.seal.is_new();
        }
        Ok(key)
    }

    /// Replaces the slot of a retired key version. The file is served whether this succeeds or not: a sweep comes by.
    fn upgrade(&self, inode: &Inode, open: &OpenFile, seen: &HeaderRegion, slot: KeySlot) {
        if self.options.read_only {
            return;
        }
        let result = (|| {
            // Of its own: the storage tells each open file once that a sync failed, and the one that the application's
            // `fsync` uses must not have been told already.
            let file = reopen(&open.for_reading())?;
            // No write may come between the file's times that are saved and restored.
            let undisturbed = |work: &mut dyn FnMut()| {
                let _held = open.ranges.hold_from(0);
                work();
            };
            let current = |region: &HeaderRegion| region.current().map(|(_, slot)| slot.generation()).ok();
            let replaced = region_file::replace::<Preamble>(&file, Durability::Here, &undisturbed, |now| {
                (current(now) == current(seen)).then_some(slot)
            });
            Ok::<_, FsError>(replaced?)
        })();
        match result {
            Ok(Some(_)) => Counters::add(&self.counters.upgraded, 1),
            Ok(None) => {}
            Err(error) => {
                Counters::add(&self.counters.upgrades_failed, 1);
                tracing::warn!(%error, inode = inode.identity.ino, "cannot rewrap a file's key on opening it");
            }
        }
    }
}

/// Whether a header says that the file has a seal.
pub(super) struct HasSeal(pub bool);

/// The header of a file, `None` if it was never written. Fails if there is something at the start of the file, and it is none.
pub(super) fn header_of(file: &File) -> Result<Option<HeaderRegion>, FsError> {
    Ok(region_file::read::<Preamble>(file)?)
}

/// The key, if the file has no feature that forbids this program to write.
pub(super) fn writable(key: Arc<FileKey>) -> Result<Arc<FileKey>, FsError> {
    if key.may_write { Ok(key) } else { Err(FsError::Refused(Errno::ROFS)) }
}

/// The same file, for writing.
pub(super) fn reopen(file: &File) -> Result<File, FsError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open(proc_path(file), flags, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::Volume;
    use super::*;

    #[test]
    fn a_header_is_never_written_over() {
        let volume = Volume::new();
        volume.write_file("f", b"contents");
        let before = std::fs::read(volume.backing("f")).unwrap();
        let id = volume.lookup("f").unwrap().id;
        volume.open(id, true);
        let inode = volume.fs.inode(id).unwrap();
        let made = volume.fs.create_header(&inode, &inode.opened().unwrap());
        assert!(matches!(made, Err(FsError::HeaderWrite)));
        assert!(std::fs::read(volume.backing("f")).unwrap() == before);
        volume.fs.release(id);
    }
}
