//! A filesystem that passes everything through to a directory, over the same transport as the encrypted one.
//!
//! Invariant: it encrypts nothing and does for each request the fewest calls that answer it, so that it is the floor that no filesystem
//! on this transport can be faster than. For measurements only: it follows names that somebody else might change.

mod directory;
mod files;
mod table;

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use sidecar::fs::{
    Attr, Caller, DirEntry, Entry, FsError, NewMode, OpenHow, RenameHow, Scratch, SetAttr, StorageSize, Time,
    WriteHow,
};
use sidecar::fuse::{Served, Session, Trial};

use table::Table;

/// How long the kernel may take to say INIT.
const PATIENCE: Duration = Duration::from_secs(10);

type Done<T> = std::result::Result<T, FsError>;

/// The directory, as a filesystem.
pub struct Floor {
    root: OwnedFd,
    table: Table,
    streams: directory::Streams,
    handles: AtomicU64,
}

impl Floor {
    fn new(storage: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(storage, flags, Mode::empty()).context("open the storage")?;
        let anchor = rustix::fs::open(storage, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            root,
            table: Table::new(anchor),
            streams: directory::Streams::default(),
            handles: AtomicU64::new(1),
        })
    }
}

/// Serves `storage` on `target` until it is unmounted; says `mounted` on standard error before.
pub fn serve(storage: &Path, target: &Path, io_uring: bool) -> Result<()> {
    let floor = Floor::new(storage)?;
    let device = sidecar::mount::open_and_mount(target, false).context("mount")?;
    let trial = Trial { io_uring, ..Trial::default() };
    let session = Session::try_out(device, Arc::new(floor), trial, PATIENCE).context("serve")?;
    eprintln!("mounted");
    session.wait();
    Ok(())
}

/// The name by which a descriptor is reached as a path.
fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn attr(stat: &rustix::fs::Stat) -> Attr {
    let time = |seconds, nanoseconds: u64| Time { seconds, nanoseconds: nanoseconds as u32 };
    Attr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: stat.st_rdev,
    }
}

impl Served for Floor {
    fn lookup(&self, parent: u64, name: &CStr) -> Done<Entry> {
        self.find(parent, name)
    }
    fn forget(&self, id: u64, count: u64) {
        self.table.forget(id, count);
    }
    fn getattr(&self, id: u64) -> Done<Attr> {
        Ok(attr(&rustix::fs::fstat(&self.table.get(id)?.fd)?))
    }
    fn setattr(&self, id: u64, change: &SetAttr) -> Done<Attr> {
        self.change(id, change)
    }
    fn open(&self, id: u64, how: OpenHow) -> Done<()> {
        self.open_file(id, how)
    }
    fn new_handle(&self) -> u64 {
        self.handles.fetch_add(1, Ordering::Relaxed)
    }
    fn release(&self, id: u64) {
        self.close_file(id);
    }
    fn read<'s>(&self, id: u64, offset: u64, len: usize, scratch: &'s mut Scratch) -> Done<&'s [u8]> {
        self.read_file(id, offset, scratch.reply(len))
    }
    fn write(&self, id: u64, offset: u64, data: &[u8], _: WriteHow, _: &mut Scratch) -> Done<usize> {
        self.write_file(id, offset, data)
    }
    fn fsync(&self, id: u64, _: u64, data_only: bool) -> Done<()> {
        self.sync_file(id, data_only)
    }
    fn create(
        &self,
        parent: u64,
        name: &CStr,
        mode: NewMode,
        caller: Caller,
        _: bool,
        _: OpenHow,
    ) -> Done<Entry> {
        self.make_file(parent, name, mode, caller)
    }
    fn mkdir(&self, parent: u64, name: &CStr, mode: NewMode, caller: Caller) -> Done<Entry> {
        self.make_directory(parent, name, mode, caller)
    }
    fn symlink(&self, parent: u64, name: &CStr, target: &CStr, _: Caller) -> Done<Entry> {
        let dir = self.table.get(parent)?;
        rustix::fs::symlinkat(target, &dir.fd, name)?;
        self.find(parent, name)
    }
    fn link(&self, id: u64, parent: u64, name: &CStr) -> Done<Entry> {
        let (node, dir) = (self.table.get(id)?, self.table.get(parent)?);
        let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(rustix::fs::CWD, proc_path(&node.fd), &dir.fd, name, follow)?;
        self.find(parent, name)
    }
    fn mknod(&self, parent: u64, name: &CStr, mode: NewMode, device: u64, caller: Caller) -> Done<Entry> {
        self.make_node(parent, name, mode, device, caller)
    }
    fn readlink(&self, id: u64) -> Done<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.table.get(id)?.fd, c"", Vec::new())?.into_bytes())
    }
    fn unlink(&self, parent: u64, name: &CStr) -> Done<()> {
        let dir = self.table.get(parent)?;
        Ok(rustix::fs::unlinkat(&dir.fd, name, rustix::fs::AtFlags::empty())?)
    }
    fn rmdir(&self, parent: u64, name: &CStr) -> Done<()> {
        let dir = self.table.get(parent)?;
        Ok(rustix::fs::unlinkat(&dir.fd, name, rustix::fs::AtFlags::REMOVEDIR)?)
    }
    fn rename(&self, parent: u64, name: &CStr, new_parent: u64, new_name: &CStr, _: RenameHow) -> Done<()> {
        let (from, to) = (self.table.get(parent)?, self.table.get(new_parent)?);
        Ok(rustix::fs::renameat(&from.fd, name, &to.fd, new_name)?)
    }
    fn opendir(&self, id: u64) -> Done<u64> {
        self.streams.open(&self.table.get(id)?.fd)
    }
    fn readdir(
        &self,
        handle: u64,
        offset: u64,
        buffer: &mut [MaybeUninit<u8>],
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Done<()> {
        self.streams.read(handle, offset, buffer, add)
    }
    fn releasedir(&self, handle: u64) {
        self.streams.close(handle);
    }
    fn fsyncdir(&self, handle: u64) -> Done<()> {
        self.streams.sync(handle)
    }
    fn fallocate(&self, id: u64, mode: u32, (offset, len): (u64, u64), _: bool, _: &mut Scratch) -> Done<()> {
        self.allocate(id, mode, offset, len)
    }
    fn statfs(&self) -> Done<StorageSize> {
        directory::size(&self.root)
    }
    fn syncfs(&self) -> Done<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}
