//! Files of the floor. Invariant: a handle of a node shares one descriptor with the others.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

use rustix::fs::{AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sidecar::fs::{Attr, Caller, Entry, FsError, NewMode, OpenHow, SetAttr, SetTime};

use super::{Done, Floor, attr, proc_path};

impl Floor {
    pub fn find(&self, parent: u64, name: &CStr) -> Done<Entry> {
        let dir = self.table.get(parent)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir.fd, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Entry { id: self.table.found((stat.st_dev, stat.st_ino), fd), attr: attr(&stat) })
    }

    pub fn make_file(&self, parent: u64, name: &CStr, mode: NewMode, caller: Caller) -> Done<Entry> {
        let dir = self.table.get(parent)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir.fd, name, flags, Mode::from_raw_mode(mode.mode & 0o7777))?;
        own(&file, caller)?;
        let entry = self.find(parent, name)?;
        let node = self.table.get(entry.id)?;
        let mut open = node.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.handles += 1;
        open.file = Some(Arc::new(file.into()));
        open.writable = true;
        Ok(entry)
    }

    pub fn make_directory(&self, parent: u64, name: &CStr, mode: NewMode, caller: Caller) -> Done<Entry> {
        let dir = self.table.get(parent)?;
        rustix::fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(mode.mode & 0o7777))?;
        own_name(&dir.fd, name, caller)?;
        self.find(parent, name)
    }

    pub fn make_node(
        &self,
        parent: u64,
        name: &CStr,
        mode: NewMode,
        device: u64,
        caller: Caller,
    ) -> Done<Entry> {
        let dir = self.table.get(parent)?;
        let (kind, bits) = (FileType::from_raw_mode(mode.mode), Mode::from_raw_mode(mode.mode & 0o7777));
        rustix::fs::mknodat(&dir.fd, name, kind, bits, device)?;
        own_name(&dir.fd, name, caller)?;
        self.find(parent, name)
    }

    pub fn open_file(&self, id: u64, how: OpenHow) -> Done<()> {
        let node = self.table.get(id)?;
        let mut open = node.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.file.is_none() || (how.write && !open.writable) {
            let access = if how.write { OFlags::RDWR } else { OFlags::RDONLY };
            let file = rustix::fs::open(proc_path(&node.fd), access | OFlags::CLOEXEC, Mode::empty())?;
            open.file = Some(Arc::new(File::from(file)));
            open.writable = how.write;
        }
        if how.truncate
            && let Some(file) = &open.file
        {
            file.set_len(0)?;
        }
        open.handles += 1;
        Ok(())
    }

    pub fn close_file(&self, id: u64) {
        let Ok(node) = self.table.get(id) else { return };
        let mut open = node.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.handles = open.handles.saturating_sub(1);
        if open.handles == 0 {
            open.file = None;
        }
    }

    fn file(&self, id: u64) -> Done<Arc<File>> {
        let node = self.table.get(id)?;
        let open = node.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.file.clone().ok_or(FsError::Refused(Errno::BADF))
    }

    pub fn read_file<'s>(&self, id: u64, offset: u64, out: &'s mut [u8]) -> Done<&'s [u8]> {
        let len = self.file(id)?.read_at(out, offset)?;
        Ok(&out[..len])
    }

    pub fn write_file(&self, id: u64, offset: u64, data: &[u8]) -> Done<usize> {
        Ok(self.file(id)?.write_at(data, offset)?)
    }

    pub fn sync_file(&self, id: u64, data_only: bool) -> Done<()> {
        let file = self.file(id)?;
        Ok(if data_only { file.sync_data() } else { file.sync_all() }?)
    }

    pub fn allocate(&self, id: u64, mode: u32, offset: u64, len: u64) -> Done<()> {
        let flags = FallocateFlags::from_bits_retain(mode);
        Ok(rustix::fs::fallocate(&*self.file(id)?, flags, offset, len)?)
    }

    pub fn change(&self, id: u64, change: &SetAttr) -> Done<Attr> {
        let node = self.table.get(id)?;
        if let Some(size) = change.size {
            let path = proc_path(&node.fd);
            File::options().write(true).open(path)?.set_len(size)?;
        }
        if let Some(mode) = change.mode {
            rustix::fs::chmod(proc_path(&node.fd), Mode::from_raw_mode(mode))?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            rustix::fs::chownat(&node.fd, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if (change.atime, change.mtime) != (SetTime::Keep, SetTime::Keep) {
            let times = Timestamps { last_access: time(change.atime), last_modification: time(change.mtime) };
            rustix::fs::utimensat(&node.fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        Ok(attr(&rustix::fs::fstat(&node.fd)?))
    }
}

/// What was made belongs to who asked for it.
fn own(fd: impl AsFd, caller: Caller) -> Done<()> {
    own_at(fd, c"", caller, AtFlags::EMPTY_PATH)
}

fn own_name(dir: impl AsFd, name: &CStr, caller: Caller) -> Done<()> {
    own_at(dir, name, caller, AtFlags::SYMLINK_NOFOLLOW)
}

fn own_at(at: impl AsFd, name: &CStr, caller: Caller, flags: AtFlags) -> Done<()> {
    if caller.uid == 0 && caller.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(caller.uid)), Some(Gid::from_raw(caller.gid)));
    Ok(rustix::fs::chownat(at, name, uid, gid, flags)?)
}

fn time(time: SetTime) -> Timespec {
    match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        SetTime::To(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}
