//! Reading.
//!
//! Invariant: bytes that are returned were sealed at their place under the file's key, or are zeros of a hole or behind a
//! short block; a block that does not open is an error, and no byte of the read is returned.

use std::fs::File;

use envelope::{BlockRange, CipherError, Opened, PAGE, PAYLOAD};

use super::buffer::{MAX_IO, PIECE, Scratch};
use super::error::FsError;
use super::key_cell::FileKey;
use super::measure::{last_block, read_up_to};
use super::open::opened;
use super::{Counters, EncryptedFs};

/// What a read of blocks found.
pub(super) struct Found {
    /// How many blocks there were; fewer than asked for if the file was cut meanwhile.
    pub blocks: usize,
    /// The last block of the file was among them and says another size: somebody is adding to the file or cutting it.
    pub is_between_sizes: bool,
}

impl EncryptedFs {
    /// Reads up to `len` bytes (at most [`MAX_IO`]) of the open file `id` at `offset`; fewer at its end.
    pub fn read<'s>(
        &self,
        id: u64,
        offset: u64,
        len: usize,
        scratch: &'s mut Scratch,
    ) -> Result<&'s [u8], FsError> {
        let inode = self.inode(id)?;
        let open = opened(&inode)?;
        self.gate.check(false)?;
        let Some(key) = self.key(&inode, &open)? else { return Ok(&[]) };
        let _pass = self.gate.enter(false)?;
        let file = open.for_reading();
        let cuts = inode.cuts();
        let size = self.known_size(&inode, &file)?;
        let asked = len.min(MAX_IO) as u64;
        let len = asked.min(size.saturating_sub(offset));
        if len == 0 {
            return Ok(&[]);
        }
        let range =
            key.geometry.covering(offset, len).map_err(|_| FsError::Refused(rustix::io::Errno::FBIG))?;
        let first = self.read_blocks(&file, &key, range, size, scratch);
        let (blocks, len) = match first {
            Ok(found) if inode.cuts() == cuts && !found.is_between_sizes => (found.blocks, len),
            // A page may have been read while it was being written or cut: once more, while nobody writes it.
            Ok(_) | Err(FsError::Block(CipherError::Block { .. })) => {
                // With the size that the file has then, of all that was asked for: bytes of a write come with its size.
                let all = key.geometry.covering(offset, asked).unwrap_or(range);
                let _held = open.ranges.hold(all.first(), all.first() + all.count() - 1);
                Counters::add(&self.counters.reread, 1);
                let size = self.known_size(&inode, &file)?;
                let len = asked.min(size.saturating_sub(offset));
                let Ok(range) = key.geometry.covering(offset, len.max(1)) else { return Ok(&[]) };
                let second = self.read_blocks(&file, &key, range, size, scratch);
                (self.counted(&inode, second)?.blocks, len)
            }
            other => (self.counted(&inode, other)?.blocks, len),
        };
        let start = (offset - range.first() * PAYLOAD as u64) as usize;
        let end = (start + len as usize).min(blocks * PAYLOAD).max(start);
        Counters::add(&self.counters.read_bytes, (end - start) as u64);
        Ok(&scratch.plain.bytes()[start..end])
    }

    /// Opens the blocks of `range` of a file of `size` bytes into the scratch's plaintext.
    pub(super) fn read_blocks(
        &self,
        file: &File,
        key: &FileKey,
        range: BlockRange,
        size: u64,
        scratch: &mut Scratch,
    ) -> Result<Found, FsError> {
        let end = (size > 0).then(|| last_block(size));
        let count = range.count() as usize;
        let plain = scratch.plain.bytes()[..count * PAYLOAD].as_chunks_mut::<PAYLOAD>().0;
        let mut found = Found { blocks: 0, is_between_sizes: false };
        for plain in plain.chunks_mut(PIECE) {
            let first = range.first() + found.blocks as u64;
            let pages = &mut scratch.pages.bytes()[..plain.len() * PAGE];
            let read = read_up_to(file, pages, key.geometry.block_offset(first))?;
            let pages = pages[..read].as_chunks::<PAGE>().0;
            found.blocks += pages.len();
            for ((index, page), out) in (first..).zip(pages).zip(&mut *plain) {
                let opened = self.open_page(key, index, page, size, out)?;
                found.is_between_sizes |=
                    end.is_some_and(|(last, len)| index == last && opened != Opened::Data(len));
            }
            if pages.len() < plain.len() {
                break;
            }
        }
        Ok(found)
    }

    /// Opens one block of a file of `size` bytes.
    pub(super) fn open_page(
        &self,
        key: &FileKey,
        index: u64,
        page: &[u8; PAGE],
        size: u64,
        out: &mut [u8; PAYLOAD],
    ) -> Result<Opened, FsError> {
        let opened = key.cipher.open_block(index, page, out)?;
        let before_end = index.saturating_mul(PAYLOAD as u64) < size;
        if opened == Opened::Hole && self.options.strict && before_end {
            return Err(FsError::Zeroed(index));
        }
        Ok(opened)
    }
}
