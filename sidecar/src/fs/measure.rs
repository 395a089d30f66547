//! The plaintext size of a file, from its physical size and the head of its last block: no key is needed.
//!
//! Invariant: trailing pages of zeros and a remainder of less than a page do not count, as the format says; a last block
//! whose head is damaged counts as full, so that reading it is an error and never a shorter file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use envelope::{BLOCK_HEAD, BlockHead, Geometry, PAGE, PAYLOAD, is_zero_page, peek_len};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// What the end of a file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Bytes of plaintext.
    pub size: u64,
    /// Bytes of the file up to the end of its last block that counts.
    pub physical: u64,
}

/// The last block of a file of `size` bytes (not 0), and how many it holds.
pub fn last_block(size: u64) -> (u64, usize) {
    let payload = PAYLOAD as u64;
    let last = (size - 1) / payload;
    (last, (size - last * payload) as usize)
}

/// Measures `file`, which has `physical` bytes.
pub fn measure(file: &File, geometry: Geometry, physical: u64) -> io::Result<Measure> {
    let mut blocks = geometry.blocks(physical);
    while blocks > 0 {
        let mut head = [0; BLOCK_HEAD];
        let offset = geometry.block_offset(blocks - 1);
        read_exact(file, &mut head, offset)?;
        let len = match peek_len(&head) {
            Ok(BlockHead::Sealed(len)) => len,
            Ok(BlockHead::Zero) if page_is_zero(file, offset)? => {
                blocks = last_with_data(file, geometry, blocks - 1)?;
                continue;
            }
            Ok(BlockHead::Zero) | Err(_) => PAYLOAD as u16,
        };
        let physical = geometry.block_offset(blocks);
        return Ok(Measure { size: geometry.plain_size(blocks, len), physical });
    }
    Ok(Measure { size: 0, physical: physical.min(geometry.header_len()) })
}

/// How many of the first `end` blocks there are up to the last one on which the storage has data. Looks back in steps
/// that double, because a hole may be very long, and halves the window in which it found some.
fn last_with_data(file: &File, geometry: Geometry, mut end: u64) -> io::Result<u64> {
    let data = |start, end| has_data(file, geometry.block_offset(start), geometry.block_offset(end));
    let mut step = 1;
    while end > 0 {
        let start = end.saturating_sub(step);
        if !data(start, end)? {
            end = start;
            step = step.saturating_mul(2);
            continue;
        }
        if end - start == 1 {
            return Ok(end);
        }
        let middle = start + (end - start) / 2;
        if data(middle, end)? {
            step = end - middle;
        } else {
            (end, step) = (middle, middle - start);
        }
    }
    Ok(0)
}

/// Whether the storage has data in `start..end`. One that cannot tell says yes.
fn has_data(file: &File, start: u64, end: u64) -> io::Result<bool> {
    match seek(file, SeekFrom::Data(start)) {
        Ok(found) => Ok(found < end),
        Err(Errno::NXIO) => Ok(false),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn page_is_zero(file: &File, offset: u64) -> io::Result<bool> {
    let mut page = [0; PAGE];
    read_exact(file, &mut page, offset)?;
    Ok(is_zero_page(&page))
}

/// Fills `out`; what is behind the end of the file stays zero.
fn read_exact(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    read_up_to(file, out, offset).map(drop)
}

/// Reads until `out` is full or the file ends; how many bytes that were.
pub fn read_up_to(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read_at(&mut out[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
