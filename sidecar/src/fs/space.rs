//! Space: preallocation, holes, and where data is.
//!
//! Invariant: a hole is made of whole blocks and never the last one; on a strict volume there are none.

use std::fs::File;

use envelope::PAYLOAD;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use super::EncryptedFs;
use super::buffer::Scratch;
use super::error::FsError;
use super::open::opened;
use super::types::StorageSize;
use super::write::Target;

const PAYLOAD_U64: u64 = PAYLOAD as u64;

/// What is sought from an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next data.
    Data,
    /// The next hole; the end of the file is one.
    Hole,
}

impl EncryptedFs {
    /// Sizes of the storage.
    pub fn statfs(&self) -> Result<StorageSize, FsError> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        Ok(StorageSize {
            block_size: stat.f_frsize as u32,
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            name_max: stat.f_namemax as u32,
        })
    }

    /// Makes everything that was written durable on the device.
    pub fn syncfs(&self) -> Result<(), FsError> {
        Ok(self.waiting(|| rustix::fs::syncfs(&self.root))?)
    }

    /// `fallocate(2)` of an open file with the flags `mode`: preallocation, with and without a new size; `PUNCH_HOLE`;
    /// `ZERO_RANGE`. Everything else is not supported. `clear_privileges` as in [`super::WriteHow`].
    pub fn fallocate(
        &self,
        id: u64,
        mode: u32,
        (offset, len): (u64, u64),
        clear_privileges: bool,
        scratch: &mut Scratch,
    ) -> Result<(), FsError> {
        let keeps_size = mode & KEEP_SIZE != 0;
        let end = offset.checked_add(len).ok_or(FsError::Refused(Errno::FBIG))?;
        if len == 0 {
            return Err(FsError::Refused(Errno::INVAL));
        }
        if end > self.options.geometry.max_size() {
            return Err(FsError::Refused(Errno::FBIG));
        }
        if clear_privileges {
            self.check_writable()?;
            self.clear_privileges(&self.inode(id)?)?;
        }
        match mode & !KEEP_SIZE {
            0 => {
                self.preallocate(id, offset, end)?;
                if keeps_size { Ok(()) } else { self.grow_to(id, end) }
            }
            PUNCH_HOLE if keeps_size => self.zero(id, offset, end, scratch),
            ZERO_RANGE => {
                self.zero(id, offset, end, scratch)?;
                self.preallocate(id, offset, end)?;
                if keeps_size { Ok(()) } else { self.grow_to(id, end) }
            }
            _ => Err(FsError::Refused(Errno::OPNOTSUPP)),
        }
    }

    /// The next data or hole at or behind `offset` of an open file.
    pub fn seek(&self, id: u64, offset: u64, what: Seek) -> Result<u64, FsError> {
        let inode = self.inode(id)?;
        let file = opened(&inode)?.for_reading();
        let size = self.known_size(&inode, &file)?;
        if offset >= size {
            return Err(FsError::Refused(Errno::NXIO));
        }
        let geometry = self.options.geometry;
        let physical = geometry.block_offset(offset / PAYLOAD_U64);
        let (from, round_up) = match what {
            Seek::Data => (SeekFrom::Data(physical), false),
            Seek::Hole => (SeekFrom::Hole(physical), true),
        };
        let found = match seek(&*file, from) {
            Ok(found) => found.saturating_sub(geometry.header_len()),
            // The last block is data, unless the storage has not noticed yet.
            Err(Errno::NXIO) if what == Seek::Hole => return Ok(size),
            Err(error) => return Err(error.into()),
        };
        let page = envelope::PAGE as u64;
        let block = if round_up { found.div_ceil(page) } else { found / page };
        Ok((block * PAYLOAD_U64).max(offset).min(size))
    }

    /// Takes space on the storage for the blocks of `offset..end`, or fails with nothing changed.
    fn preallocate(&self, id: u64, offset: u64, end: u64) -> Result<(), FsError> {
        self.check_writable()?;
        let inode = self.inode(id)?;
        let open = opened(&inode)?;
        self.gate.check(false)?;
        self.keys.permit()?;
        let file = open.for_writing().ok_or(FsError::Refused(Errno::BADF))?;
        let geometry = self.options.geometry;
        let range = geometry.covering(offset, end - offset).map_err(|_| FsError::Refused(Errno::FBIG))?;
        // The header counts with the first block.
        let start = if range.first() == 0 { 0 } else { geometry.block_offset(range.first()) };
        let end = geometry.block_offset(range.first() + range.count());
        Ok(fallocate(&*file, FallocateFlags::KEEP_SIZE, start, end - start)?)
    }

    /// Makes an open file at least `size` bytes long.
    fn grow_to(&self, id: u64, size: u64) -> Result<(), FsError> {
        let inode = self.inode(id)?;
        let open = opened(&inode)?;
        let key = self.key_for_writing(&inode, &open)?;
        let _pass = self.gate.enter(false)?;
        let file = open.for_writing().ok_or(FsError::Refused(Errno::BADF))?;
        let _held = open.ranges.hold_from(0);
        let old = self.known_size(&inode, &file)?;
        let target = Target { file: &file, key: &key, inode: &inode, size: old };
        if size <= old {
            return Ok(());
        }
        self.before_resize(&target, size)?;
        self.counted(&inode, self.grow(&target, size))
    }

    /// Makes `offset..end` read as zeros, as far as the file goes.
    fn zero(&self, id: u64, offset: u64, end: u64, scratch: &mut Scratch) -> Result<(), FsError> {
        self.check_writable()?;
        let inode = self.inode(id)?;
        let open = opened(&inode)?;
        self.gate.check(false)?;
        self.keys.permit()?;
        let file = open.for_writing().ok_or(FsError::Refused(Errno::BADF))?;
        if self.known_size(&inode, &file)? <= offset {
            return Ok(());
        }
        let Some(key) = self.key(&inode, &open)? else { return Ok(()) };
        if !key.may_write {
            return Err(FsError::Refused(Errno::ROFS));
        }
        let _pass = self.gate.enter(false)?;
        let _held = open.ranges.hold_from(offset / PAYLOAD_U64);
        let size = self.known_size(&inode, &file)?;
        let target = Target { file: &file, key: &key, inode: &inode, size };
        let result = self.zero_held(&target, offset, end.min(size), scratch);
        self.counted(&inode, result)
    }

    fn zero_held(
        &self,
        target: &Target<'_>,
        offset: u64,
        end: u64,
        scratch: &mut Scratch,
    ) -> Result<(), FsError> {
        if offset >= end {
            return Ok(());
        }
        // Whole blocks, without the last one of the file.
        let first = offset.div_ceil(PAYLOAD_U64);
        let last = (end / PAYLOAD_U64).min((target.size - 1) / PAYLOAD_U64);
        if self.options.strict || first >= last {
            return self.write_zeros(target, offset, end, scratch);
        }
        let geometry = target.key.geometry;
        let start = geometry.block_offset(first);
        // What is on the device must not end with a hole where this file has more blocks: one behind the hole must be there.
        if target.inode.durable.size() <= last * PAYLOAD_U64 {
            self.settle(target)?;
        }
        // First, because not all storage can do it: what is refused has changed nothing.
        punch(target.file, start, geometry.block_offset(last) - start)?;
        self.write_zeros(target, offset, first * PAYLOAD_U64, scratch)?;
        self.write_zeros(target, last * PAYLOAD_U64, end, scratch)
    }

    /// Seals zeros over `offset..end`.
    fn write_zeros(
        &self,
        target: &Target<'_>,
        offset: u64,
        end: u64,
        scratch: &mut Scratch,
    ) -> Result<(), FsError> {
        const STEP: u64 = 16 * PAYLOAD_U64;
        static ZEROS: [u8; STEP as usize] = [0; STEP as usize];
        let mut at = offset;
        while at < end {
            let len = (STEP - at % PAYLOAD_U64).min(end - at);
            let range = target.key.geometry.covering(at, len).map_err(|_| FsError::Refused(Errno::FBIG))?;
            let written = self.write_held(target, range, at, &ZEROS[..len as usize], scratch)?;
            at += written as u64;
        }
        Ok(())
    }

    /// Writes all of `data` in an open file; used where a short write makes no sense.
    #[cfg(test)]
    pub(super) fn write_all(&self, id: u64, mut offset: u64, mut data: &[u8]) -> Result<(), FsError> {
        let mut scratch = Scratch::new();
        while !data.is_empty() {
            let written = self.write(id, offset, data, super::WriteHow::default(), &mut scratch)?;
            offset += written as u64;
            data = &data[written..];
        }
        Ok(())
    }
}

const KEEP_SIZE: u32 = FallocateFlags::KEEP_SIZE.bits();
const PUNCH_HOLE: u32 = FallocateFlags::PUNCH_HOLE.bits();
const ZERO_RANGE: u32 = FallocateFlags::ZERO_RANGE.bits();

/// Gives whole pages back to the storage.
fn punch(file: &File, start: u64, len: u64) -> Result<(), FsError> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, flags, start, len)?)
}
