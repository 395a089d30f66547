//! Changing a file's size.
//!
//! Invariant: the last block is always sealed with its real length; after a crash a shortened file is old, or cut at a block
//! that still holds all its bytes.

use std::fs::File;
use std::sync::Arc;

use envelope::{Opened, PAGE, PAYLOAD};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::EncryptedFs;
use super::buffer::with_plain;
use super::content::{HasSeal, reopen};
use super::error::FsError;
use super::inode::Inode;
use super::measure::last_block;
use super::open::opened;
use super::open_file::OpenFile;
use super::write::Target;

const PAYLOAD_U64: u64 = PAYLOAD as u64;

impl EncryptedFs {
    /// Makes an open file `size` bytes long; new bytes are zeros.
    pub(super) fn resize(&self, inode: &Arc<Inode>, size: u64) -> Result<(), FsError> {
        let open = opened(inode)?;
        self.gate.check(false)?;
        if size > self.options.geometry.max_size() {
            return Err(FsError::Refused(Errno::FBIG));
        }
        self.keys.permit()?;
        let file = open.for_writing().ok_or(FsError::Refused(Errno::BADF))?;
        if size == 0 {
            return self.empty(inode, &open, &file);
        }
        let key = self.key_for_writing(inode, &open)?;
        let _pass = self.gate.enter(false)?;
        let _held = open.ranges.hold_from(0);
        let old = self.known_size(inode, &file)?;
        let target = Target { file: &file, key: &key, inode, size: old };
        self.before_resize(&target, size)?;
        let result = match size.cmp(&old) {
            std::cmp::Ordering::Less => self.shrink(&target, size),
            std::cmp::Ordering::Equal => touch(&file),
            std::cmp::Ordering::Greater => self.grow(&target, size),
        };
        self.counted(inode, result)
    }

    /// Cuts an open file to nothing. Only one with a seal needs a key for that.
    fn empty(&self, inode: &Arc<Inode>, open: &OpenFile, file: &File) -> Result<(), FsError> {
        let mut key = None;
        loop {
            let pass = self.gate.enter(false)?;
            let held = open.ranges.hold_from(0);
            // Without a key nothing else has told yet that this is a file that we may cut.
            let header = self.counted(inode, self.check_header(file))?;
            if key.is_none() && header.is_some_and(|HasSeal(has)| has) {
                drop((held, pass));
                key = self.key(inode, open)?;
                continue;
            }
            let (size, physical) = (self.known_size(inode, file)?, file.metadata()?.len());
            if let Some(key) = &key {
                self.before_resize(&Target { file, key, inode, size }, 0)?;
            }
            inode.cut_to(0);
            let cut = file.set_len(physical.min(self.options.geometry.header_len()));
            cut.inspect_err(|_| inode.set_size(size))?;
            return touch(file);
        }
    }

    /// Makes a file shorter.
    pub(super) fn shrink(&self, target: &Target<'_>, size: u64) -> Result<(), FsError> {
        with_plain(|plain| self.shrink_with(target, size, plain))
    }

    fn shrink_with(&self, target: &Target<'_>, size: u64, plain: &mut [u8; PAYLOAD]) -> Result<(), FsError> {
        let (last, len) = last_block(size);
        let opened = self.read_block(target, last, &mut [0; PAGE], plain)?;
        let mut held = match opened {
            Opened::Hole => 0,
            Opened::Data(held) => held,
        };
        // It is about to be the last block: what is found after a crash must not end before the new size. So it must be there
        // before the cut is, also where it filled a hole since the last sync.
        let fills = held < len;
        if fills {
            target.write_block(last, &plain[..])?;
            held = PAYLOAD;
        }
        if fills || !target.inode.durable.has_all_overwrites() {
            self.settle(target)?;
        }
        // From here on nobody is told of a size or of bytes between the two states.
        target.inode.cut_to(size);
        let cut = target.file.set_len(target.key.geometry.block_offset(last + 1));
        cut.inspect_err(|_| target.inode.set_size(target.size))?;
        if held != len {
            // Until that block has its new length, the file ends where it did, or with all that the block holds.
            let between = target.size.min(last * PAYLOAD_U64 + held as u64);
            let written = target.write_block(last, &plain[..len]);
            written.inspect_err(|_| target.inode.set_size(between))?;
        }
        Ok(())
    }

    /// Makes what a file holds durable. By a descriptor of its own: the storage tells each open file once that a sync failed,
    /// and the one that the application's `fsync` uses must not have been told already.
    pub(super) fn settle(&self, target: &Target<'_>) -> Result<(), FsError> {
        let mark = target.inode.durable.mark(target.size);
        let file = reopen(target.file)?;
        self.waiting(|| file.sync_data())?;
        target.inode.durable.synced(mark);
        Ok(())
    }

    /// Makes a file longer.
    pub(super) fn grow(&self, target: &Target<'_>, size: u64) -> Result<(), FsError> {
        with_plain(|plain| self.grow_with(target, size, plain))
    }

    fn grow_with(&self, target: &Target<'_>, size: u64, plain: &mut [u8; PAYLOAD]) -> Result<(), FsError> {
        let (last, len) = last_block(size);
        let blocks = target.key.geometry.blocks_for(target.size);
        if last < blocks {
            self.read_block(target, last, &mut [0; PAGE], plain)?;
            target.write_block(last, &plain[..len])?;
        } else {
            if self.options.strict {
                target.fill_gap(last)?;
            }
            target.append_block(last, &plain[..len])?;
        }
        target.inode.set_size(size);
        Ok(())
    }
}

/// A truncation to the size that the file has changes its times all the same.
fn touch(file: &File) -> Result<(), FsError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}
