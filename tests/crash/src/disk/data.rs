//! The bytes of a file, by pages.
//!
//! Invariant: no page lies behind the end, and bytes of the last page behind the end are zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use envelope::PAGE;

/// A page; shared by all states that hold it.
pub type Page = Arc<[u8; PAGE]>;

const PAGE_U64: u64 = PAGE as u64;

/// See the module. A page that is not there is a hole.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Bytes.
    pub size: u64,
    /// Pages by their number.
    pub pages: BTreeMap<u64, Page>,
}

/// A part of a write that lies in one page.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The page.
    pub page: u64,
    /// Where in it.
    pub start: usize,
    /// What.
    pub bytes: &'a [u8],
}

impl Data {
    /// Reads from `offset`; fewer bytes at the end.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let len = self.size.saturating_sub(offset).min(len as u64) as usize;
        let mut out = vec![0; len];
        let mut at = 0;
        while at < len {
            let (page, start) = ((offset + at as u64) / PAGE_U64, ((offset + at as u64) % PAGE_U64) as usize);
            let now = (PAGE - start).min(len - at);
            if let Some(page) = self.pages.get(&page) {
                out[at..at + now].copy_from_slice(&page[start..start + now]);
            }
            at += now;
        }
        out
    }

    /// Writes one part; the file reaches at least to its end.
    pub fn write(&mut self, part: Part<'_>) {
        let mut page = self.pages.get(&part.page).map_or([0; PAGE], |page| **page);
        page[part.start..part.start + part.bytes.len()].copy_from_slice(part.bytes);
        self.pages.insert(part.page, Arc::new(page));
        self.size = self.size.max(part.end());
    }

    /// Cuts or lengthens it.
    pub fn set_len(&mut self, len: u64) {
        if len < self.size {
            self.pages.retain(|number, _| number * PAGE_U64 < len);
            let (last, rest) = (len / PAGE_U64, (len % PAGE_U64) as usize);
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[rest..].fill(0);
            }
        }
        self.size = len;
    }

    /// Makes a hole of whole pages.
    pub fn punch(&mut self, start: u64, end: u64) {
        assert!(
            start.is_multiple_of(PAGE_U64) && end.is_multiple_of(PAGE_U64),
            "the filesystem punches pages"
        );
        self.pages.retain(|number, _| *number < start / PAGE_U64 || *number >= end / PAGE_U64);
    }

    /// Where data begins, at or behind `offset`.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (page, _) = self.pages.range(offset / PAGE_U64..).next()?;
        Some((page * PAGE_U64).max(offset)).filter(|found| *found < self.size)
    }

    /// Where a hole begins, at or behind `offset`; the end is one.
    pub fn next_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let mut page = offset / PAGE_U64;
        while self.pages.contains_key(&page) {
            page += 1;
        }
        Some((page * PAGE_U64).max(offset).min(self.size))
    }
}

impl Part<'_> {
    /// The offset behind it.
    pub fn end(&self) -> u64 {
        self.page * PAGE_U64 + (self.start + self.bytes.len()) as u64
    }

    /// Whether it is all of its page.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == PAGE
    }
}

/// The parts of a write, page by page.
pub fn parts(mut offset: u64, mut bytes: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let start = (offset % PAGE_U64) as usize;
        let (now, rest) = bytes.split_at(bytes.len().min(PAGE - start));
        parts.push(Part { page: offset / PAGE_U64, start, bytes: now });
        offset += now.len() as u64;
        bytes = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_was_written_and_zeros_elsewhere() {
        let mut data = Data::default();
        for part in parts(4090, &[7; 20]) {
            data.write(part);
        }
        assert_eq!((data.size, data.pages.len()), (4110, 2));
        assert_eq!(data.read(4089, 3), [0, 7, 7]);
        assert_eq!(data.read(4109, 100), [7]);
        data.set_len(4095);
        data.set_len(9000);
        assert_eq!(data.read(4094, 3), [7, 0, 0]);
        assert_eq!((data.next_data(1), data.next_hole(0)), (Some(1), Some(4096)));
        data.punch(0, 4096);
        assert_eq!((data.next_data(0), data.next_hole(0)), (None, Some(0)));
    }
}
