//! What a request gets.
//!
//! Invariant: it borrows from the thread's scratch at most, never from the request, whose memory may be where the answer goes.

use fuse_backend_rs::abi::fuse_abi::InitOut;

use super::init::Negotiated;

/// Bytes of the largest structure that is an answer (`fuse_statx_out`).
const SMALL: usize = 288;

/// See the module.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack: nothing is allocated for a reply")]
pub enum Reply<'s> {
    /// The request wants no answer.
    Nothing,
    /// It is done.
    Empty,
    /// Structures, one after the other.
    Small(Small),
    /// A value that was made for it.
    Owned(Vec<u8>),
    /// What the thread has in its scratch.
    Data(&'s [u8]),
    /// The answer to INIT, and what is agreed by it.
    Init(InitOut, Negotiated),
}

/// Up to 288 bytes.
pub struct Small {
    bytes: [u8; SMALL],
    len: usize,
}

impl Reply<'_> {
    /// A copy of `parts`, which are small.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut small = Small { bytes: [0; SMALL], len: 0 };
        for part in parts {
            small.bytes[small.len..small.len + part.len()].copy_from_slice(part);
            small.len += part.len();
        }
        Self::Small(small)
    }

    /// The bytes behind the header of the answer.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing | Self::Empty => &[],
            Self::Small(small) => &small.bytes[..small.len],
            Self::Owned(value) => value,
            Self::Data(data) => data,
            Self::Init(out, _) => vm_memory::ByteValued::as_slice(out),
        }
    }
}
