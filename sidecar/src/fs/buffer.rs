//! Page-aligned buffers that are used again and again.
//!
//! Invariant: a buffer starts at a page; its memory is the kernel's zero pages until it is touched, so that an idle one costs
//! nothing.

use std::hint::black_box;

use envelope::{PAGE, PAYLOAD};
use rustix::mm::{Advice, madvise};
use zeroize::Zeroize;

/// The largest read or write, in bytes of plaintext.
pub const MAX_IO: usize = 1 << 20;
/// Blocks that the largest read or write can touch.
pub const MAX_BLOCKS: usize = MAX_IO.div_ceil(PAYLOAD) + 1;

/// Blocks that are sealed or opened at a time: so few that they are still in the processor's cache when they go on.
pub const PIECE: usize = 32;

/// Bytes that start at a page.
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start, len }
    }

    /// Makes all bytes zero again. Whole pages go back to the kernel, so that those that were never touched are not touched now;
    /// only a kernel before 5.18 does not take them if they are locked.
    pub fn wipe(&mut self) {
        let bytes = self.bytes();
        let pages = bytes.len() / PAGE * PAGE;
        let (whole, rest) = bytes.split_at_mut(pages);
        // SAFETY: the pages are whole, private memory of this process that nobody else borrows; the kernel puts pages of zeros
        // in their place, as a new buffer has.
        let given = unsafe { madvise(whole.as_mut_ptr().cast(), pages, Advice::LinuxDontneedLocked) };
        if given.is_err() {
            whole.zeroize();
        }
        rest.zeroize();
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Runs `work` with room for a block's plaintext on the stack, of which nothing is left there: what is on the stack next may be copied
/// to the heap with whatever stands in its gaps, and live for as long as a file is open.
pub fn with_plain<T>(work: impl FnOnce(&mut [u8; PAYLOAD]) -> T) -> T {
    let mut plain = [0; PAYLOAD];
    let result = work(&mut plain);
    plain.fill(0);
    // Nobody reads the zeros, and they must be written all the same.
    black_box(&mut plain);
    result
}

/// What one read or write works in: the ciphertext pages of a piece, and plaintext.
pub struct Scratch {
    pub(super) pages: Buffer,
    pub(super) plain: Buffer,
}

impl Scratch {
    /// Room for [`MAX_IO`] bytes at any offset.
    pub fn new() -> Self {
        Self { pages: Buffer::new(PIECE * PAGE), plain: Buffer::new(MAX_BLOCKS * PAYLOAD) }
    }

    /// Makes all bytes zero again.
    pub fn wipe(&mut self) {
        self.pages.wipe();
        self.plain.wipe();
    }

    /// Up to `len` bytes for a reply that is no file's data.
    pub fn reply(&mut self, len: usize) -> &mut [u8] {
        let len = len.min(MAX_IO);
        &mut self.plain.bytes()[..len]
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_buffer_is_zeros_to_its_last_byte() {
        for len in [1, PAGE, 3 * PAGE + 100] {
            let mut buffer = Buffer::new(len);
            buffer.bytes().fill(7);
            buffer.wipe();
            assert!(buffer.bytes().iter().all(|byte| *byte == 0));
            buffer.bytes().fill(8);
        }
    }

    #[test]
    fn a_buffer_starts_at_a_page_and_has_its_length() {
        for len in [1, PAGE, MAX_BLOCKS * PAGE] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.bytes().len(), len);
            assert_eq!(buffer.bytes().as_ptr() as usize % PAGE, 0);
        }
    }
}
