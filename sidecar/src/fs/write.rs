//! Writing.
//!
//! Invariant: each page on the storage goes from one sealed block to another in one write; what is acknowledged is in the
//! storage's hands; a write that fails in the middle (a full disk) is shorter, and what was there before stays readable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use envelope::{BlockRange, BlockSpan, PAGE, PAYLOAD};
use rustix::io::Errno;

use super::buffer::{MAX_IO, PIECE, Scratch, with_plain};
use super::content::writable;
use super::error::FsError;
use super::inode::Inode;
use super::key_cell::FileKey;
use super::measure::read_up_to;
use super::open::opened;
use super::open_file::OpenFile;
use super::ranges::Held;
use super::types::WriteHow;
use super::{Counters, EncryptedFs};

const PAYLOAD_U64: u64 = PAYLOAD as u64;
/// Blocks of a write that are put together as one piece of plaintext: a page of the application lies in two of them.
const FEW: usize = 2;

/// A file that is being written by this thread, which holds the range.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub file: &'a File,
    pub key: &'a FileKey,
    pub inode: &'a Inode,
    /// Its size before.
    pub size: u64,
}

impl Target<'_> {
    /// Seals and writes one block.
    pub fn write_block(&self, index: u64, plain: &[u8]) -> Result<(), FsError> {
        let mut page = [0; PAGE];
        self.key.cipher.seal_block(index, plain, &mut page)?;
        Ok(self.file.write_all_at(&page, self.key.geometry.block_offset(index))?)
    }

    /// Seals and writes one block behind the file's end; cuts off again what does not fit.
    pub fn append_block(&self, index: u64, plain: &[u8]) -> Result<(), FsError> {
        self.write_block(index, plain).inspect_err(|_| {
            if let Ok(physical) = self.key.geometry.physical_size(self.size) {
                let _ = self.file.set_len(physical);
            }
        })
    }

    /// On a strict volume: seals zeros from the end of the file up to the block `until`.
    pub fn fill_gap(&self, until: u64) -> Result<(), FsError> {
        let first = self.key.geometry.blocks_for(self.size);
        for index in first..until {
            self.append_block(index, &[0; PAYLOAD])?;
        }
        Ok(())
    }

    /// A write to `end` that ended early. One that was to add to the file leaves it with its last whole block; any other
    /// one holds its own blocks only, and what is behind them is none of its business.
    fn after_failure(
        &self,
        (offset, end): (u64, u64),
        written_to: u64,
        error: io::Error,
    ) -> Result<usize, FsError> {
        if end > self.size {
            let size = if written_to > offset { self.size.max(written_to) } else { self.size };
            if size > self.size {
                self.inode.set_size(size);
            }
            if let Ok(physical) = self.key.geometry.physical_size(size)
                && self.file.metadata()?.len() > physical
            {
                self.file.set_len(physical)?;
            }
        }
        if written_to > offset { Ok((written_to - offset) as usize) } else { Err(error.into()) }
    }
}

impl EncryptedFs {
    /// Writes `data` (at most [`MAX_IO`] bytes) to the open file `id` at `offset`; how many bytes were written.
    pub fn write(
        &self,
        id: u64,
        offset: u64,
        data: &[u8],
        how: WriteHow,
        scratch: &mut Scratch,
    ) -> Result<usize, FsError> {
        let inode = self.inode(id)?;
        let open = opened(&inode)?;
        let data = &data[..data.len().min(MAX_IO)];
        if data.is_empty() {
            return Ok(0);
        }
        self.gate.check(how.writeback)?;
        let key = match open.key.present().filter(|_| how.writeback) {
            // What a process changed in a mapping was accepted already, and the kernel drops a page that is refused: the
            // key will do as long as it is here, whether new use of it is permitted or not.
            Some(key) => writable(key)?,
            None if self.gate.is_closing() => return Err(FsError::Suspended),
            None => self.key_for_writing(&inode, &open)?,
        };
        let _pass = self.gate.enter(how.writeback)?;
        let file = open.for_writing().ok_or(FsError::Refused(Errno::BADF))?;
        let len = data.len() as u64;
        let range = key.geometry.covering(offset, len).map_err(|_| FsError::Refused(Errno::FBIG))?;
        if how.clear_privileges {
            self.clear_privileges(&inode)?;
        }
        let (_held, size) = self.hold_for_write(&inode, &open, &file, range, offset + len)?;
        let target = Target { file: &file, key: &key, inode: &inode, size };
        self.before_resize(&target, size.max(offset + len))?;
        let written = self.write_held(&target, range, offset, data, scratch);
        let written = self.counted(&inode, written)?;
        Counters::add(&self.counters.written_bytes, written as u64);
        Ok(written)
    }

    /// Holds the blocks of a write; everything behind them too if the write changes the size.
    fn hold_for_write<'a>(
        &self,
        inode: &Inode,
        open: &'a Arc<OpenFile>,
        file: &File,
        range: BlockRange,
        end: u64,
    ) -> Result<(Held<'a>, u64), FsError> {
        loop {
            let extends = end > self.known_size(inode, file)?;
            let held = if extends {
                open.ranges.hold_from(range.first())
            } else {
                open.ranges.hold(range.first(), range.first() + range.count() - 1)
            };
            let size = self.known_size(inode, file)?;
            if extends || end <= size {
                return Ok((held, size));
            }
        }
    }

    /// Writes within blocks that are held, piece by piece; fewer bytes if a later piece fails.
    pub(super) fn write_held(
        &self,
        target: &Target<'_>,
        range: BlockRange,
        offset: u64,
        data: &[u8],
        scratch: &mut Scratch,
    ) -> Result<usize, FsError> {
        if self.options.strict && offset > target.size {
            target.fill_gap(range.first())?;
        }
        let (mut target, mut done) = (*target, 0);
        while done < data.len() {
            let at = offset + done as u64;
            let to_boundary = (at / PAYLOAD_U64 + PIECE as u64) * PAYLOAD_U64 - at;
            let piece = &data[done..][..to_boundary.min((data.len() - done) as u64) as usize];
            let written = match self.write_piece(&target, at, piece, scratch) {
                Ok(written) => written,
                // Whoever writes the rest is told.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            done += written;
            target.size = target.size.max(at + written as u64);
            if written < piece.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Writes within at most [`PIECE`] blocks that are held.
    fn write_piece(
        &self,
        target: &Target<'_>,
        offset: u64,
        data: &[u8],
        scratch: &mut Scratch,
    ) -> Result<usize, FsError> {
        let end = offset + data.len() as u64;
        let size = target.size.max(end);
        let range = target.key.geometry.covering(offset, data.len() as u64);
        let range = range.map_err(|_| FsError::Refused(Errno::FBIG))?;
        let count = range.count() as usize;
        let pages = &mut scratch.pages.bytes()[..count * PAGE];
        if count <= FEW {
            let plain = &mut scratch.plain.bytes()[..count * PAYLOAD];
            self.seal_few(target, range.first(), (offset, size), data, plain, pages)?;
        } else {
            self.seal(target, range, size, data, pages)?;
        }
        let start = target.key.geometry.block_offset(range.first());
        let (whole, error) = write_pages(target.file, pages, start);
        if range.first() * PAYLOAD_U64 < target.size {
            target.inode.durable.overwritten();
        }
        let written_to = (range.first() + whole) * PAYLOAD_U64;
        let Some(error) = error else {
            if size > target.size {
                target.inode.set_size(size);
            }
            return Ok(data.len());
        };
        target.after_failure((offset, end), written_to, error)
    }

    /// Seals `data`, which begins at `offset`, and what stands around it in its few blocks, of a file of `size` bytes from now on.
    /// What stays is read in one go, and everything is sealed in one go.
    fn seal_few(
        &self,
        target: &Target<'_>,
        first: u64,
        (offset, size): (u64, u64),
        data: &[u8],
        plain: &mut [u8],
        pages: &mut [u8],
    ) -> Result<(), FsError> {
        let base = first * PAYLOAD_U64;
        let within = |at: u64| at.saturating_sub(base).min(plain.len() as u64) as usize;
        let (old, new) = (within(target.size), within(size));
        let start = (offset - base) as usize;
        let written = start..start + data.len();
        // The blocks of which something stays.
        let stays = |block: &usize| {
            let (begin, end) = (block * PAYLOAD, old.min((block + 1) * PAYLOAD));
            begin < end && (begin < written.start || written.end < end)
        };
        let blocks = plain.len() / PAYLOAD;
        let (from, to) = ((0..blocks).find(stays), (0..blocks).rfind(stays));
        plain.fill(0);
        if let (Some(from), Some(to)) = (from, to) {
            let pages = &mut pages[from * PAGE..(to + 1) * PAGE];
            let read = read_up_to(target.file, pages, target.key.geometry.block_offset(first + from as u64))?;
            pages[read..].fill(0);
            let plain = plain.as_chunks_mut::<PAYLOAD>().0;
            for (block, page) in (from..).zip(pages.as_chunks::<PAGE>().0) {
                self.open_page(target.key, first + block as u64, page, target.size, &mut plain[block])?;
            }
        }
        plain[written].copy_from_slice(data);
        Ok(target.key.cipher.seal_run(first, &plain[..new], pages)?)
    }

    /// Seals `data` and what stands around it in the blocks at its edges.
    fn seal(
        &self,
        target: &Target<'_>,
        range: BlockRange,
        size: u64,
        data: &[u8],
        pages: &mut [u8],
    ) -> Result<(), FsError> {
        let mut spans = range.spans();
        let mut run: Option<(BlockSpan, usize)> = None;
        while let Some(span) = spans.next() {
            if span.is_whole() {
                let whole = spans.len() + 1;
                let tail = usize::from(range.tail_edge().is_some());
                run = Some((span, whole - tail));
                break;
            }
            self.seal_edge(target, range, span, size, data, pages)?;
        }
        if let Some((first, blocks)) = run {
            let at = (first.block - range.first()) as usize * PAGE;
            let plain = &data[first.offset..first.offset + blocks * PAYLOAD];
            target.key.cipher.seal_run(first.block, plain, &mut pages[at..at + blocks * PAGE])?;
        }
        match range.tail_edge() {
            Some(span) if run.is_some() => self.seal_edge(target, range, span, size, data, pages),
            _ => Ok(()),
        }
    }

    /// Seals a block of which `data` covers a part, or that does not fill its payload.
    fn seal_edge(
        &self,
        target: &Target<'_>,
        range: BlockRange,
        span: BlockSpan,
        size: u64,
        data: &[u8],
        pages: &mut [u8],
    ) -> Result<(), FsError> {
        let base = span.block * PAYLOAD_U64;
        let old = target.size.saturating_sub(base).min(PAYLOAD_U64) as usize;
        let new = (size - base).min(PAYLOAD_U64) as usize;
        let at = (span.block - range.first()) as usize * PAGE;
        let page = pages[at..].first_chunk_mut::<PAGE>().ok_or(FsError::Refused(Errno::INVAL))?;
        with_plain(|plain| {
            if old > 0 && (span.start > 0 || span.end < old) {
                self.read_block(target, span.block, page, plain)?;
            }
            plain[span.start..span.end].copy_from_slice(&data[span.offset..span.offset + span.len()]);
            target.key.cipher.seal_block(span.block, &plain[..new], page)?;
            Ok(())
        })
    }

    /// Reads one block of a file whose block is held; what is not there reads as zeros.
    pub(super) fn read_block(
        &self,
        target: &Target<'_>,
        index: u64,
        page: &mut [u8; PAGE],
        plain: &mut [u8; PAYLOAD],
    ) -> Result<envelope::Opened, FsError> {
        page.fill(0);
        read_up_to(target.file, page, target.key.geometry.block_offset(index))?;
        self.open_page(target.key, index, page, target.size, plain)
    }
}

/// Writes pages; how many whole ones were written, and the error that ended it.
fn write_pages(file: &File, pages: &[u8], offset: u64) -> (u64, Option<io::Error>) {
    let mut done = 0;
    while done < pages.len() {
        match file.write_at(&pages[done..], offset + done as u64) {
            Ok(0) => return (whole(done), Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (whole(done), Some(error)),
        }
    }
    (whole(done), None)
}

fn whole(bytes: usize) -> u64 {
    (bytes / PAGE) as u64
}
