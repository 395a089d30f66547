//! Where plaintext bytes lie on the volume: arithmetic between offsets, blocks and pages.
//!
//! Invariant: block `i` is the page at `header + 4096·i` and holds plaintext `4048·i .. 4048·i + 4048`. All offsets and
//! sizes are bytes in `u64`; nothing overflows for a size up to [`Geometry::max_size`], and larger ones are errors.

use thiserror::Error;

use crate::{PAGE, PAYLOAD};

const PAGE_U64: u64 = PAGE as u64;
const PAYLOAD_U64: u64 = PAYLOAD as u64;
/// The largest file offset that the kernel knows (`loff_t`).
const MAX_PHYSICAL: u64 = i64::MAX as u64;

/// Why a number does not fit the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GeometryError {
    /// A header has 1 to 16 pages.
    #[error("a header has 1 to 16 pages, not {0}")]
    HeaderPages(u8),
    /// The range ends beyond the largest file that the format holds.
    #[error("the range ends beyond the largest size of a file")]
    TooLarge,
}

/// The geometry of a file: how many pages its header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    header_pages: u8,
}

/// A plaintext offset as a block and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index of the block, from 0.
    pub block: u64,
    /// Offset within its plaintext, `0..4048`.
    pub within: usize,
}

/// The part of one block that a byte range covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpan {
    /// Index of the block, from 0.
    pub block: u64,
    /// First byte within the block's plaintext, `0..4048`.
    pub start: usize,
    /// One past the last byte within the block's plaintext, `1..=4048`.
    pub end: usize,
    /// Offset of the span's first byte within the range that was asked for.
    pub offset: usize,
}

impl BlockSpan {
    /// Bytes in the span, `1..=4048`.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// A span holds at least one byte.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Whether the span is the block's whole payload, so that a write needs no read first.
    pub const fn is_whole(&self) -> bool {
        self.start == 0 && self.end == PAYLOAD
    }
}

/// The blocks that a byte range touches: whole ones and at most two edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    offset: u64,
    len: u64,
}

impl BlockRange {
    /// Index of the first block.
    pub const fn first(&self) -> u64 {
        self.offset / PAYLOAD_U64
    }

    /// How many blocks the range touches; 0 for an empty range.
    pub const fn count(&self) -> u64 {
        if self.len == 0 {
            return 0;
        }
        (self.offset + self.len - 1) / PAYLOAD_U64 - self.first() + 1
    }

    /// Each block's span, in order.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = BlockSpan> + use<> {
        let range = *self;
        let count = usize::try_from(range.count()).expect("a range fits the address space");
        (0..count).map(move |step| range.span(range.first() + step as u64))
    }

    /// The first block's span if it is only a part of the block.
    pub fn head_edge(&self) -> Option<BlockSpan> {
        (self.count() > 0).then(|| self.span(self.first())).filter(|span| !span.is_whole())
    }

    /// The last block's span if it is only a part of the block and not the first block.
    pub fn tail_edge(&self) -> Option<BlockSpan> {
        (self.count() > 1).then(|| self.span(self.first() + self.count() - 1)).filter(|span| !span.is_whole())
    }

    fn span(&self, block: u64) -> BlockSpan {
        let base = block * PAYLOAD_U64;
        let start = self.offset.max(base);
        let end = (self.offset + self.len).min(base + PAYLOAD_U64);
        BlockSpan {
            block,
            start: (start - base) as usize,
            end: (end - base) as usize,
            offset: (start - self.offset) as usize,
        }
    }
}

impl Geometry {
    /// The geometry of a header of `header_pages` pages.
    pub const fn new(header_pages: u8) -> Result<Self, GeometryError> {
        if header_pages == 0 || header_pages > 16 {
            return Err(GeometryError::HeaderPages(header_pages));
        }
        Ok(Self { header_pages })
    }

    /// Pages of the header region, `1..=16`.
    pub const fn header_pages(&self) -> u8 {
        self.header_pages
    }

    /// Bytes of the header region: 4096 to 65,536.
    pub const fn header_len(&self) -> u64 {
        self.header_pages as u64 * PAGE_U64
    }

    /// Bytes of one key slot.
    pub const fn slot_len(&self) -> usize {
        let pages = self.header_pages as usize;
        if pages == 1 {
            return 1536;
        }
        let first = pages.div_ceil(2);
        let (a, b) = (first * PAGE - 1024, (pages - first) * PAGE);
        if a < b { a } else { b }
    }

    /// Offset of key slot `index` (0 or 1) in the file: in different pages where the header has two.
    pub const fn slot_offset(&self, index: usize) -> usize {
        if index == 0 {
            1024
        } else if self.header_pages == 1 {
            2560
        } else {
            (self.header_pages as usize).div_ceil(2) * PAGE
        }
    }

    /// The largest plaintext size of a file, in bytes.
    pub const fn max_size(&self) -> u64 {
        (MAX_PHYSICAL - self.header_len()) / PAGE_U64 * PAYLOAD_U64
    }

    /// Physical offset of block `index`'s page. Saturates beyond [`Self::max_size`], where no read or write can succeed.
    pub const fn block_offset(&self, index: u64) -> u64 {
        index.saturating_mul(PAGE_U64).saturating_add(self.header_len())
    }

    /// Whole blocks in a file of `physical` bytes. A remainder of less than a page is a torn append and does not count.
    pub const fn blocks(&self, physical: u64) -> u64 {
        physical.saturating_sub(self.header_len()) / PAGE_U64
    }

    /// Bytes behind the last whole block (or of a header that was cut): 0 for every file that was written to its end.
    pub const fn ragged_bytes(&self, physical: u64) -> u64 {
        if physical < self.header_len() { physical } else { (physical - self.header_len()) % PAGE_U64 }
    }

    /// Blocks that `plain` bytes of plaintext take.
    pub const fn blocks_for(&self, plain: u64) -> u64 {
        plain.div_ceil(PAYLOAD_U64)
    }

    /// Physical size of a file that holds `plain` bytes of plaintext.
    pub const fn physical_size(&self, plain: u64) -> Result<u64, GeometryError> {
        if plain > self.max_size() {
            return Err(GeometryError::TooLarge);
        }
        Ok(self.block_offset(self.blocks_for(plain)))
    }

    /// Plaintext size of a file whose last sealed block is number `blocks - 1` and holds `last_len` bytes:
    /// `(blocks − 1)·4048 + last_len`. Trailing zero blocks are not counted in `blocks`; no block means size 0.
    pub const fn plain_size(&self, blocks: u64, last_len: u16) -> u64 {
        if blocks == 0 {
            return 0;
        }
        (blocks - 1).saturating_mul(PAYLOAD_U64).saturating_add(last_len as u64)
    }

    /// The block that holds plaintext byte `offset`.
    pub const fn locate(&self, offset: u64) -> Position {
        Position { block: offset / PAYLOAD_U64, within: (offset % PAYLOAD_U64) as usize }
    }

    /// The blocks that plaintext bytes `offset .. offset + len` touch.
    pub const fn covering(&self, offset: u64, len: u64) -> Result<BlockRange, GeometryError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.max_size() => Ok(BlockRange { offset, len }),
            _ => Err(GeometryError::TooLarge),
        }
    }
}

#[cfg(test)]
#[path = "tests/geometry.rs"]
mod tests;
