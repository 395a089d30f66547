//! A request as it was read from the device.
//!
//! Invariant: parsing reads within the bytes that were received, or says `EINVAL`.

use std::ffi::CStr;

use fuse_backend_rs::abi::fuse_abi::InHeader;
use rustix::io::Errno;
use vm_memory::ByteValued;

use crate::fs::FsError;

/// Bytes of a request's header.
pub const HEADER: usize = size_of::<InHeader>();

/// A request: its header, and what is left of its body.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Opcode, unique number, inode, caller.
    pub header: InHeader,
    /// What the operation says, where that came by itself (io_uring); else it begins the body.
    operation: Option<&'a [u8]>,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads the header. `bytes` is what one read gave, aligned to 8; `None` if it is no whole request.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = *InHeader::from_slice(bytes.get(..HEADER)?)?;
        let body = bytes.get(HEADER..header.len as usize)?;
        Some(Self { header, operation: None, body })
    }

    /// A request whose header, operation and body came in three parts. `operation` is aligned to 8, and may be longer than what
    /// the operation says.
    pub fn of_parts(header: InHeader, operation: &'a [u8], body: &'a [u8]) -> Self {
        Self { header, operation: Some(operation), body }
    }

    /// The inode.
    pub fn node(&self) -> u64 {
        self.header.nodeid
    }

    /// The next structure of the body.
    pub fn take<T: ByteValued>(&mut self) -> Result<T, FsError> {
        let from = self.operation.as_mut().unwrap_or(&mut self.body);
        let (bytes, rest) = from.split_at_checked(size_of::<T>()).ok_or(malformed())?;
        *from = rest;
        T::from_slice(bytes).copied().ok_or(malformed())
    }

    /// The next structure, if there are bytes for it.
    pub fn take_if_there<T: ByteValued>(&mut self) -> Option<T> {
        let mut after = *self;
        let value = after.take().ok()?;
        *self = after;
        Some(value)
    }

    /// The next NUL-terminated name.
    pub fn name(&mut self) -> Result<&'a CStr, FsError> {
        let name = CStr::from_bytes_until_nul(self.body).map_err(|_| malformed())?;
        self.body = &self.body[name.to_bytes_with_nul().len()..];
        Ok(name)
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], FsError> {
        let (bytes, rest) = self.body.split_at_checked(len).ok_or(malformed())?;
        self.body = rest;
        Ok(bytes)
    }
}

fn malformed() -> FsError {
    FsError::Refused(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fuse_backend_rs::abi::fuse_abi::{GetxattrIn, RenameIn};

    fn message(body: &[u8], claimed: usize) -> Vec<u64> {
        let header = InHeader { len: (HEADER + claimed) as u32, opcode: 1, nodeid: 7, ..InHeader::default() };
        let bytes: Vec<u8> = header.as_slice().iter().chain(body).copied().collect();
        let padded = bytes.len().div_ceil(8) * 8;
        let mut bytes = bytes;
        bytes.resize(padded, 0);
        bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }

    fn bytes(words: &[u64]) -> &[u8] {
        ByteValued::as_slice(words.first_chunk::<9>().unwrap())
    }

    #[test]
    fn a_request_is_read_field_by_field() {
        let body = [&9_u64.to_le_bytes()[..], b"old\0new\0", &[0; 16]].concat();
        let words = message(&body, 16);
        let mut request = Request::parse(bytes(&words)).unwrap();
        assert_eq!(request.node(), 7);
        assert_eq!(request.take::<RenameIn>().unwrap().newdir, 9);
        assert_eq!(request.name().unwrap(), c"old");
        assert_eq!(request.name().unwrap(), c"new");
        assert!(request.name().is_err());
        assert!(request.take_if_there::<GetxattrIn>().is_none());
    }

    #[test]
    fn a_request_that_is_longer_than_what_was_read_is_none() {
        let words = message(&[0; 32], 33);
        assert!(Request::parse(bytes(&words)).is_none());
        assert!(Request::parse(&bytes(&words)[..HEADER - 1]).is_none());
    }
}
