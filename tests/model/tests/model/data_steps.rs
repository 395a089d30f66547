//! Steps that open, read, write and shape files.
//!
//! Invariant: a write or read that the filesystem under test does in part is a failure: no storage is full here.

use rustix::fs::SeekFrom;
use sidecar::fs::{OpenHow, Seek, SetAttr, WriteHow};

use crate::reference::Kind;
use crate::steps::{Allocation, Step};
use crate::world::{Verdict, World, errno};

impl World {
    /// Does one of these steps.
    pub fn data_step(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Open { node, write, truncate } => self.open(node, write, truncate),
            Step::Close { handle } => {
                if let Some(at) = self.handle(handle) {
                    self.close(at);
                }
                Ok(())
            }
            Step::Write { handle, at, len, fill, clear } => self.write(handle, at, len, fill, clear),
            Step::Read { handle, at, len } => self.read(handle, at, len),
            Step::Truncate { node, size, clear } => self.truncate(node, size, clear),
            Step::Allocate { handle, mode, at, len } => self.allocate(handle, mode, at, len),
            Step::Seek { handle, at } => self.seek(handle, at),
            Step::Fsync { handle, data_only } => self.fsync(handle, data_only),
            _ => Err("no step of this kind".into()),
        }
    }

    fn open(&mut self, node: u8, write: bool, truncate: bool) -> Verdict {
        let any = node >= 200;
        let Some(node) = self.reference.pick(node, |node| any || node.is_file()) else { return Ok(()) };
        let id = self.real.id(&self.reference, node)?;
        let mut expected = match self.reference.node(node).kind {
            Kind::File(_) => self.reference.check_served(),
            Kind::Directory(_) => Err(libc::EISDIR),
            Kind::Symlink(_) | Kind::Fifo => Err(libc::EINVAL),
        };
        if truncate && expected.is_ok() {
            expected = self.reference.truncate(node, 0, false);
        }
        let found = errno(self.real.fs.open(id, OpenHow { write, truncate, clear_privileges: false }));
        self.same(&expected, &found)?;
        if found.is_ok() {
            self.add_handle(node, id, write || truncate);
        }
        Ok(())
    }

    /// A handle that may write.
    fn writer(&self, number: u8) -> Option<(usize, u64)> {
        let handle = &self.handles[self.handle(number)?];
        handle.write.then_some((handle.node, handle.id))
    }

    fn write(&mut self, handle: u8, at: u64, len: u64, fill: u8, clear: bool) -> Verdict {
        let Some((node, id)) = self.writer(handle) else { return Ok(()) };
        let bytes = pattern(fill, at, len);
        let expected = self.reference.write(node, at, &bytes, clear);
        let how = WriteHow { clear_privileges: clear, ..WriteHow::default() };
        let found = errno(self.real.fs.write(id, at, &bytes, how, &mut self.real.scratch));
        self.same(&expected, &found)
    }

    fn read(&mut self, handle: u8, at: u64, len: u64) -> Verdict {
        let Some(handle) = self.handle(handle) else { return Ok(()) };
        let (node, id) = (self.handles[handle].node, self.handles[handle].id);
        let found = self.real.fs.read(id, at, len as usize, &mut self.real.scratch);
        let found = errno(found.map(<[u8]>::to_vec));
        self.same(&self.reference.read(node, at, len), &found)
    }

    fn truncate(&mut self, node: u8, size: u64, clear: bool) -> Verdict {
        let Some(node) = self.reference.pick(node, crate::reference::Node::is_file) else { return Ok(()) };
        let change = SetAttr { size: Some(size), clear_privileges: clear, ..SetAttr::default() };
        let found = self.set_attr(node, &change)?.map(|attr| attr.size);
        let expected = self.reference.truncate(node, size, clear).map(|()| size);
        self.same(&expected, &found)
    }

    fn allocate(&mut self, handle: u8, mode: Allocation, at: u64, len: u64) -> Verdict {
        let Some((node, id)) = self.writer(handle) else { return Ok(()) };
        let expected = self.reference.allocate(node, mode, at, len);
        let scratch = &mut self.real.scratch;
        let found = errno(self.real.fs.fallocate(id, mode.flags(), (at, len), false, scratch));
        self.same(&expected, &found)
    }

    /// Data is never named a hole; a hole may be named data, and the end of the file is a hole.
    fn seek(&mut self, handle: u8, at: u64) -> Verdict {
        let Some(handle) = self.handle(handle) else { return Ok(()) };
        let (node, id) = (self.handles[handle].node, self.handles[handle].id);
        let size = self.reference.node(node).data().len() as u64;
        let sought = errno(self.real.fs.seek(id, at, Seek::Data));
        let hole = errno(self.real.fs.seek(id, at, Seek::Hole));
        if at >= size {
            self.same(&Err(libc::ENXIO), &sought)?;
            return self.same(&Err(libc::ENXIO), &hole);
        }
        self.same(&Ok(()), &sought.map(drop))?;
        let data = self.reference.node(node).data();
        let zeros = |start: u64, end: u64| data[start as usize..end as usize].iter().all(|byte| *byte == 0);
        match sought {
            Ok(found) if (at..size).contains(&found) && zeros(at, found) => {}
            other => return Err(format!("{:?} of {size} bytes: data at {other:?}", SeekFrom::Data(at))),
        }
        let Ok(hole) = hole else { return Err(format!("no hole behind {at}: {hole:?}")) };
        if hole == size {
            return Ok(());
        }
        let end = errno(self.real.fs.seek(id, hole, Seek::Data));
        match end {
            Ok(end) if (at..size).contains(&hole) && end > hole && zeros(hole, end) => Ok(()),
            other => Err(format!("hole at {hole} of {size} bytes, sought from {at}: next data {other:?}")),
        }
    }

    fn fsync(&mut self, handle: u8, data_only: bool) -> Verdict {
        let Some(handle) = self.handle(handle) else { return Ok(()) };
        let handle = &self.handles[handle];
        self.same(&Ok(()), &errno(self.real.fs.fsync(handle.id, handle.number, data_only)))
    }
}

/// Bytes that tell who wrote them and where; one kind in eight is zeros.
pub fn pattern(fill: u8, at: u64, len: u64) -> Vec<u8> {
    if fill.is_multiple_of(8) {
        return vec![0; len as usize];
    }
    (at..at + len).map(|place| (place as u8).wrapping_mul(31) ^ (place >> 8) as u8 ^ fill).collect()
}
