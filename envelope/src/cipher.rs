//! Seals and opens the blocks of one file.
//!
//! Invariant: a [`BlockCipher`] exists only for a DEK that the preamble accepted; every sealed block has a nonce that was
//! drawn for it from the kernel in that call; an opened block is the plaintext that was sealed at that index, or an error
//! with the output zeroed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use thiserror::Error;

use crate::block::{BLOCK_HEAD, BlockError, BlockHead, NONCE_LEN, TAG_AT, aad, peek_len};
use crate::derive::{Derived, Extracted};
use crate::frame::HeaderError;
use crate::keys::{Dek, RandomError, RandomSource, fill_random};
use crate::preamble::Preamble;
use crate::wire::all_zero;
use crate::xaes::{EngineFailure, Prefix, Xaes};
use crate::{PAGE, PAYLOAD};

/// Blocks that are sealed under one nonce prefix before a new one is drawn.
pub const PREFIX_BUDGET: u32 = 1 << 20;
/// Derived keys of other sessions' prefixes that a file keeps for reading.
const OPENERS: usize = 8;
/// Nonces drawn by one call to the kernel in a run of blocks.
const NONCE_BATCH: usize = 32;

/// Why a block was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CipherError {
    /// No nonce: nothing was sealed.
    #[error("draw a nonce")]
    Random(#[from] RandomError),
    /// A block holds 1 to 4048 bytes, and a run's buffers fit its blocks.
    #[error("a block holds 1 to 4048 bytes and takes a page")]
    Length,
    /// The page is not a block of this file at this index.
    #[error("open block {index}")]
    Block {
        /// The index that was asked for.
        index: u64,
        /// What is wrong with the page.
        #[source]
        source: BlockError,
    },
    /// The cryptographic engine refused (out of memory, failed self-test).
    #[error("the cryptographic engine failed")]
    Engine,
}

impl From<EngineFailure> for CipherError {
    fn from(_: EngineFailure) -> Self {
        Self::Engine
    }
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// All zero: reads as zeros. A strict volume refuses it; so does the caller for the last block.
    Hole,
    /// This many bytes, `1..=4048`; the rest of the payload reads as zeros.
    Data(usize),
}

/// The key of one file's blocks. `Send + Sync`; one for all handles of the file.
pub struct BlockCipher {
    xaes: Xaes,
    random: RandomSource,
    sealer: RwLock<Option<Arc<Sealer>>>,
    openers: RwLock<Openers>,
}

struct Sealer {
    prefix: Prefix,
    key: Arc<LessSafeKey>,
    left: AtomicU32,
}

#[derive(Default)]
struct Openers {
    entries: Vec<(Prefix, Arc<LessSafeKey>)>,
    next: usize,
}

impl std::fmt::Debug for BlockCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockCipher(..)")
    }
}

impl BlockCipher {
    /// The cipher of a file, after [`Preamble::verify`] accepted `dek`.
    pub fn new(dek: &Dek, preamble: &Preamble) -> Result<Self, HeaderError> {
        Self::with_random(dek, preamble, fill_random)
    }

    pub(crate) fn with_random(
        dek: &Dek,
        preamble: &Preamble,
        random: RandomSource,
    ) -> Result<Self, HeaderError> {
        preamble.verify(dek)?;
        let key = preamble.data_key(&Extracted::new(dek.expose(), &preamble.file_id().0));
        Self::with_key(&key, random)
    }

    /// The cipher of a file by its data key, which only a [`crate::FileDek`] has.
    pub(crate) fn with_data_key(key: &Derived) -> Result<Self, HeaderError> {
        Self::with_key(key, fill_random)
    }

    fn with_key(key: &Derived, random: RandomSource) -> Result<Self, HeaderError> {
        let xaes = Xaes::new(key).map_err(|_| HeaderError::Engine)?;
        Ok(Self { xaes, random, sealer: RwLock::new(None), openers: RwLock::new(Openers::default()) })
    }

    /// Seals `plaintext` (1 to 4048 bytes) as block `index` into `page`, which is overwritten whole.
    pub fn seal_block(&self, index: u64, plaintext: &[u8], page: &mut [u8; PAGE]) -> Result<(), CipherError> {
        let sealer = self.sealer(1)?;
        let mut suffix = [0; 12];
        (self.random)(&mut suffix)?;
        sealer.seal(index, plaintext, suffix, page)
    }

    /// Seals consecutive blocks from `first`: every 4048 bytes of `plaintext` one page of `pages`; only the last may be
    /// shorter. `pages` has exactly one page for each block. On an error the pages' contents are unspecified.
    pub fn seal_run(&self, first: u64, plaintext: &[u8], pages: &mut [u8]) -> Result<(), CipherError> {
        let (pages, rest) = pages.as_chunks_mut::<PAGE>();
        let blocks = plaintext.len().div_ceil(PAYLOAD);
        if !rest.is_empty() || pages.len() != blocks || blocks == 0 {
            return Err(CipherError::Length);
        }
        let mut index = first;
        for (pages, plaintext) in pages.chunks_mut(NONCE_BATCH).zip(plaintext.chunks(NONCE_BATCH * PAYLOAD)) {
            let sealer = self.sealer(pages.len() as u32)?;
            let mut suffixes = [[0; 12]; NONCE_BATCH];
            let suffixes = &mut suffixes[..pages.len()];
            (self.random)(suffixes.as_flattened_mut())?;
            let blocks = pages.iter_mut().zip(plaintext.chunks(PAYLOAD));
            for ((page, plaintext), suffix) in blocks.zip(suffixes) {
                sealer.seal(index, plaintext, *suffix, page)?;
                index += 1;
            }
        }
        Ok(())
    }

    /// Opens block `index` into `out`, which gets the whole payload: the plaintext and zeros behind it.
    pub fn open_block(
        &self,
        index: u64,
        page: &[u8; PAGE],
        out: &mut [u8; PAYLOAD],
    ) -> Result<Opened, CipherError> {
        let result = self.open_into(index, page, out);
        if result.is_err() {
            out.fill(0);
        }
        result
    }

    fn open_into(
        &self,
        index: u64,
        page: &[u8; PAGE],
        out: &mut [u8; PAYLOAD],
    ) -> Result<Opened, CipherError> {
        let fail = |source| CipherError::Block { index, source };
        let head = page.first_chunk().ok_or(CipherError::Length)?;
        let len = match peek_len(head).map_err(fail)? {
            BlockHead::Sealed(len) => len,
            BlockHead::Zero if all_zero(&page[BLOCK_HEAD..]) => {
                out.fill(0);
                return Ok(Opened::Hole);
            }
            BlockHead::Zero => return Err(fail(BlockError::Head)),
        };
        let (prefix, suffix) = split_nonce(page);
        self.opener(&prefix)?
            .open_separate_gather(
                Nonce::assume_unique_for_key(suffix),
                Aad::from(aad(index, len)),
                &page[BLOCK_HEAD..TAG_AT],
                &page[TAG_AT..],
                out,
            )
            .map_err(|_| fail(BlockError::Tag))?;
        let len = len as usize;
        out[len..].fill(0);
        Ok(Opened::Data(len))
    }

    /// A sealer with room for `blocks` more blocks; draws a new prefix when the current one is used up.
    fn sealer(&self, blocks: u32) -> Result<Arc<Sealer>, CipherError> {
        let current = self.sealer.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealer) = current.as_ref().filter(|sealer| sealer.reserve(blocks)) {
            return Ok(Arc::clone(sealer));
        }
        drop(current);
        let mut current = self.sealer.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealer) = current.as_ref().filter(|sealer| sealer.reserve(blocks)) {
            return Ok(Arc::clone(sealer));
        }
        let mut prefix = [0; 12];
        (self.random)(&mut prefix)?;
        let sealer = Arc::new(Sealer {
            prefix,
            key: Arc::new(self.xaes.context(&prefix)?),
            left: AtomicU32::new(PREFIX_BUDGET - blocks),
        });
        *current = Some(Arc::clone(&sealer));
        Ok(sealer)
    }

    /// The derived key of a prefix that stands in a block.
    fn opener(&self, prefix: &Prefix) -> Result<Arc<LessSafeKey>, CipherError> {
        if let Some(key) = self.openers.read().unwrap_or_else(PoisonError::into_inner).find(prefix) {
            return Ok(key);
        }
        let key = Arc::new(self.xaes.context(prefix)?);
        self.openers.write().unwrap_or_else(PoisonError::into_inner).insert(*prefix, &key);
        Ok(key)
    }
}

impl Sealer {
    fn reserve(&self, blocks: u32) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(blocks)).is_ok()
    }

    fn seal(
        &self,
        index: u64,
        plaintext: &[u8],
        suffix: [u8; 12],
        page: &mut [u8; PAGE],
    ) -> Result<(), CipherError> {
        if plaintext.is_empty() || plaintext.len() > PAYLOAD {
            return Err(CipherError::Length);
        }
        let len = plaintext.len() as u16;
        page[..12].copy_from_slice(&self.prefix);
        page[12..NONCE_LEN].copy_from_slice(&suffix);
        page[NONCE_LEN..26].copy_from_slice(&len.to_le_bytes());
        page[26..BLOCK_HEAD].fill(0);
        let (body, tag) = page[BLOCK_HEAD..].split_at_mut(PAYLOAD);
        body[..plaintext.len()].copy_from_slice(plaintext);
        body[plaintext.len()..].fill(0);
        let sealed = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(suffix),
            Aad::from(aad(index, len)),
            body,
        );
        if let Ok(found) = &sealed {
            tag.copy_from_slice(found.as_ref());
            return Ok(());
        }
        // The buffer may hold plaintext: it must not reach the volume.
        page.fill(0);
        Err(CipherError::Engine)
    }
}

impl Openers {
    fn find(&self, prefix: &Prefix) -> Option<Arc<LessSafeKey>> {
        let (_, key) = self.entries.iter().find(|(known, _)| known == prefix)?;
        Some(Arc::clone(key))
    }

    /// First in, first out: a file has few sessions, and an entry that goes too early costs one derivation.
    fn insert(&mut self, prefix: Prefix, key: &Arc<LessSafeKey>) {
        if self.find(&prefix).is_some() {
            return;
        }
        if self.entries.len() < OPENERS {
            self.entries.push((prefix, Arc::clone(key)));
            return;
        }
        self.entries[self.next] = (prefix, Arc::clone(key));
        self.next = (self.next + 1) % OPENERS;
    }
}

fn split_nonce(page: &[u8; PAGE]) -> (Prefix, [u8; 12]) {
    let (mut prefix, mut suffix) = ([0; 12], [0; 12]);
    prefix.copy_from_slice(&page[..12]);
    suffix.copy_from_slice(&page[12..NONCE_LEN]);
    (prefix, suffix)
}

#[cfg(test)]
#[path = "tests/cipher.rs"]
mod tests;
