//! The page of one block: nonce, length, flags, ciphertext, tag.
//!
//! Invariant: one block is one page, so that a page that is written whole or not at all is a block old or new. A page of
//! zeros is a hole; no sealed block has a nonce of zeros.

use thiserror::Error;

use crate::wire::all_zero;
use crate::{PAGE, PAYLOAD};

/// Bytes before the ciphertext: enough to read a block's length.
pub const BLOCK_HEAD: usize = 32;
pub(crate) const NONCE_LEN: usize = 24;
pub(crate) const TAG_AT: usize = BLOCK_HEAD + PAYLOAD;

const _: () = assert!(TAG_AT + 16 == PAGE);

/// Why a page is not a block of this file at this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The fields before the ciphertext have values that no block has.
    #[error("the head of the block is malformed")]
    Head,
    /// The tag does not fit: another key, another index, or a changed byte.
    #[error("the block does not authenticate")]
    Tag,
}

/// What the first 32 bytes of a page say, before anything is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockHead {
    /// All zero: a hole if the rest of the page is zero too ([`is_zero_page`]), else damage.
    Zero,
    /// A sealed block that claims to hold this many bytes, `1..=4048`.
    Sealed(u16),
}

impl BlockHead {
    /// Bytes that a sealed block claims; `None` for zeros.
    pub const fn claimed(self) -> Option<u16> {
        match self {
            Self::Zero => None,
            Self::Sealed(len) => Some(len),
        }
    }
}

/// Reads a block's length without a key. It is authenticated when the block is opened.
pub fn peek_len(head: &[u8; BLOCK_HEAD]) -> Result<BlockHead, BlockError> {
    if all_zero(head) {
        return Ok(BlockHead::Zero);
    }
    let len = u16::from_le_bytes([head[24], head[25]]);
    let rest_is_zero = all_zero(&head[26..]);
    let nonce_is_zero = all_zero(&head[..NONCE_LEN]);
    if nonce_is_zero || !rest_is_zero || len == 0 || len as usize > PAYLOAD {
        return Err(BlockError::Head);
    }
    Ok(BlockHead::Sealed(len))
}

/// Whether a page is a hole.
pub fn is_zero_page(page: &[u8; PAGE]) -> bool {
    all_zero(page)
}

/// AAD of a block: `index` (8 bytes, big-endian), length, flags (2 each, little-endian), 4 zero bytes.
pub(crate) fn aad(index: u64, len: u16) -> [u8; 16] {
    let mut aad = [0; 16];
    aad[..8].copy_from_slice(&index.to_be_bytes());
    aad[8..10].copy_from_slice(&len.to_le_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(len: u16) -> [u8; BLOCK_HEAD] {
        let mut head = [0; BLOCK_HEAD];
        head[0] = 1;
        head[24..26].copy_from_slice(&len.to_le_bytes());
        head
    }

    #[test]
    fn the_length_of_a_block_is_read_without_a_key() {
        assert_eq!(peek_len(&head(1)), Ok(BlockHead::Sealed(1)));
        assert_eq!(peek_len(&head(4048)), Ok(BlockHead::Sealed(4048)));
        assert_eq!(peek_len(&[0; BLOCK_HEAD]), Ok(BlockHead::Zero));
        assert_eq!(BlockHead::Zero.claimed(), None);
    }

    #[test]
    fn a_head_that_no_block_has_is_an_error() {
        for len in [0, 4049, u16::MAX] {
            assert_eq!(peek_len(&head(len)), Err(BlockError::Head));
        }
        for at in 26..BLOCK_HEAD {
            let mut head = head(9);
            head[at] = 1;
            assert_eq!(peek_len(&head), Err(BlockError::Head), "byte {at}");
        }
        let mut without_nonce = head(9);
        without_nonce[0] = 0;
        assert_eq!(peek_len(&without_nonce), Err(BlockError::Head));
    }

    #[test]
    fn one_byte_makes_a_page_no_hole() {
        let mut page = [0; PAGE];
        assert!(is_zero_page(&page));
        page[PAGE - 1] = 1;
        assert!(!is_zero_page(&page));
    }
}
