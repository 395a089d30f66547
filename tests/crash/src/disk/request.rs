//! A FUSE request, and the parts of an answer.
//!
//! Invariant: a request that is not whole is `EINVAL`.

use fuse_backend_rs::abi::fuse_abi::{Attr, EntryOut, InHeader};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::image::{Body, Node};

/// How long the kernel may keep names and attributes: nobody but the kernel changes anything.
const VALID: u64 = 3600;

/// See the module.
pub struct Request<'a> {
    /// Who asks what.
    pub header: InHeader,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request in `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Errno> {
        let mut request = Self { header: InHeader::default(), body: bytes };
        request.header = request.take()?;
        Ok(request)
    }

    /// The next structure.
    pub fn take<T: ByteValued + Default>(&mut self) -> Result<T, Errno> {
        let mut value = T::default();
        let bytes = self.bytes(size_of::<T>())?;
        value.as_mut_slice().copy_from_slice(bytes);
        Ok(value)
    }

    /// The next name.
    pub fn name(&mut self) -> Result<Vec<u8>, Errno> {
        let end = self.body.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let name = self.body[..end].to_vec();
        self.body = &self.body[end + 1..];
        Ok(name)
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.body.split_at_checked(len).ok_or(Errno::INVAL)?;
        self.body = rest;
        Ok(bytes)
    }
}

/// An entry, as it answers a lookup.
pub fn entry(id: u64, node: &Node) -> EntryOut {
    EntryOut {
        nodeid: id,
        entry_valid: VALID,
        attr_valid: VALID,
        attr: attr(id, node),
        ..EntryOut::default()
    }
}

/// Attributes of an inode.
pub fn attr(id: u64, node: &Node) -> Attr {
    let (size, pages) = match &node.body {
        Body::File(data) => (data.size, data.pages.len() as u64),
        Body::Dir(_) => (4096, 1),
        Body::Link(target) => (target.len() as u64, 0),
    };
    let [(atime, atimensec), (mtime, mtimensec)] = node.attrs.times;
    Attr {
        ino: id,
        size,
        blocks: pages * 8,
        atime,
        atimensec,
        mtime,
        mtimensec,
        ctime: mtime,
        ctimensec: mtimensec,
        mode: node.attrs.mode,
        nlink: node.links,
        uid: node.attrs.uid,
        gid: node.attrs.gid,
        blksize: 4096,
        ..Attr::default()
    }
}
