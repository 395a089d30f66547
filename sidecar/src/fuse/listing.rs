//! The reply to `READDIR` and `READDIRPLUS`: entries one after the other, each padded to 8 bytes.
//!
//! Invariant: an entry is there whole or not at all.

use fuse_backend_rs::abi::fuse_abi::{Dirent, EntryOut};
use vm_memory::ByteValued;

use crate::fs::DirEntry;

/// Entries that are put into a buffer until it is full.
pub struct Listing<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Listing<'a> {
    /// An empty listing that has room for `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes of all entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether an entry has room; `plus`: with attributes.
    pub fn has_room(&self, entry: &DirEntry<'_>, plus: bool) -> bool {
        let head = if plus { size_of::<EntryOut>() } else { 0 };
        self.len + head + padded(entry) <= self.out.len()
    }

    /// Adds an entry, after [`Self::has_room`]; `attributes` for `READDIRPLUS`.
    pub fn add(&mut self, entry: &DirEntry<'_>, attributes: Option<&EntryOut>) {
        if let Some(attributes) = attributes {
            self.put(attributes.as_slice());
        }
        let name = entry.name.to_bytes();
        let dirent = Dirent {
            ino: entry.ino,
            off: entry.next,
            namelen: name.len() as u32,
            type_: entry.kind.as_raw_mode() >> 12,
        };
        self.put(dirent.as_slice());
        self.put(name);
        let padding = padded(entry) - size_of::<Dirent>() - name.len();
        self.put(&[0; 8][..padding]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Bytes of an entry without attributes.
fn padded(entry: &DirEntry<'_>) -> usize {
    (size_of::<Dirent>() + entry.name.count_bytes()).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;

    #[test]
    fn entries_are_padded_and_end_where_there_is_no_room() {
        let entry = DirEntry { ino: 5, kind: FileType::Directory, name: c"abc", next: 77 };
        let mut out = [0xAA; 72];
        let mut listing = Listing::new(&mut out);
        assert!(listing.has_room(&entry, false) && !listing.has_room(&entry, true));
        listing.add(&entry, None);
        listing.add(&entry, None);
        assert!(!listing.has_room(&entry, false));
        assert_eq!(listing.len(), 64);
        assert_eq!(&out[16..28], &[3, 0, 0, 0, 4, 0, 0, 0, b'a', b'b', b'c', 0]);
        assert_eq!(out[8], 77);
    }
}
