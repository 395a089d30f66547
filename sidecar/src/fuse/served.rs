//! What a connection serves: the seam between the protocol and a filesystem.
//!
//! Invariant: no type of the protocol in it; a filesystem that does not have an operation refuses it with `EOPNOTSUPP`. The encrypted
//! filesystem is the one that is served; the benchmark serves one that encrypts nothing over the same transport.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;

use envelope::Ownership;
use rustix::io::Errno;

use crate::fs::{
    Attr, Caller, DirEntry, EncryptedFs, Entry, FsError, KernelCache, NewMode, OpenHow, RenameHow, Scratch,
    Seek, SetAttr, StorageSize, Time, Waiting, WriteHow,
};

type Result<T> = std::result::Result<T, FsError>;

/// The operations, as [`EncryptedFs`] describes them. Called from many threads at once.
#[allow(missing_docs, reason = "each is the method of the same name of EncryptedFs")]
#[allow(unused_variables, reason = "what is not there needs no argument")]
pub trait Served: Send + Sync {
    fn connected(&self, cache: Arc<dyn KernelCache>, waiting: Arc<dyn Waiting>) {}
    /// Whether it applies umask and default ACLs itself.
    fn has_acl(&self) -> bool {
        false
    }
    fn give_back(&self, most: usize) {}
    /// Called every few seconds.
    fn seal_closed(&self) {}
    fn why_suspended(&self) -> FsError {
        FsError::Suspended
    }
    fn lookup(&self, parent: u64, name: &CStr) -> Result<Entry>;
    fn lookup_listed(&self, parent: u64, entry: &DirEntry<'_>) -> Result<Entry> {
        self.lookup(parent, entry.name)
    }
    fn forget(&self, id: u64, count: u64);
    fn getattr(&self, id: u64) -> Result<Attr>;
    fn birth_time(&self, id: u64) -> Result<Option<Time>> {
        Ok(None)
    }
    fn setattr(&self, id: u64, change: &SetAttr) -> Result<Attr>;
    fn open(&self, id: u64, how: OpenHow) -> Result<()>;
    /// Called between an open that succeeded and its answer: may give the kernel what the file holds.
    fn prefetch(&self, id: u64, scratch: &mut Scratch) {}
    /// A number for a handle that was just opened.
    fn new_handle(&self) -> u64;
    fn release(&self, id: u64);
    fn read<'s>(&self, id: u64, offset: u64, len: usize, scratch: &'s mut Scratch) -> Result<&'s [u8]>;
    fn write(&self, id: u64, offset: u64, data: &[u8], how: WriteHow, scratch: &mut Scratch)
    -> Result<usize>;
    fn fsync(&self, id: u64, handle: u64, data_only: bool) -> Result<()>;
    fn create(
        &self,
        parent: u64,
        name: &CStr,
        mode: NewMode,
        caller: Caller,
        exclusive: bool,
        how: OpenHow,
    ) -> Result<Entry>;
    fn mkdir(&self, parent: u64, name: &CStr, mode: NewMode, caller: Caller) -> Result<Entry>;
    fn unlink(&self, parent: u64, name: &CStr) -> Result<()>;
    fn rmdir(&self, parent: u64, name: &CStr) -> Result<()>;
    fn rename(
        &self,
        parent: u64,
        name: &CStr,
        new_parent: u64,
        new_name: &CStr,
        how: RenameHow,
    ) -> Result<()>;
    fn opendir(&self, id: u64) -> Result<u64>;
    fn readdir(
        &self,
        handle: u64,
        offset: u64,
        buffer: &mut [MaybeUninit<u8>],
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()>;
    fn releasedir(&self, handle: u64);
    fn fsyncdir(&self, handle: u64) -> Result<()>;
    fn statfs(&self) -> Result<StorageSize>;
    fn syncfs(&self) -> Result<()>;
    fn link(&self, id: u64, parent: u64, name: &CStr) -> Result<Entry> {
        absent()
    }
    fn symlink(&self, parent: u64, name: &CStr, target: &CStr, caller: Caller) -> Result<Entry> {
        absent()
    }
    fn mknod(&self, parent: u64, name: &CStr, mode: NewMode, device: u64, caller: Caller) -> Result<Entry> {
        absent()
    }
    fn readlink(&self, id: u64) -> Result<Vec<u8>> {
        absent()
    }
    fn fallocate(
        &self,
        id: u64,
        mode: u32,
        range: (u64, u64),
        clear_privileges: bool,
        scratch: &mut Scratch,
    ) -> Result<()> {
        absent()
    }
    fn seek(&self, id: u64, offset: u64, what: Seek) -> Result<u64> {
        absent()
    }
    fn getxattr(&self, id: u64, name: &CStr) -> Result<Vec<u8>> {
        absent()
    }
    fn listxattr(&self, id: u64) -> Result<Vec<u8>> {
        absent()
    }
    fn setxattr(&self, id: u64, name: &CStr, value: &[u8], flags: u32, clear_privileges: bool) -> Result<()> {
        absent()
    }
    fn removexattr(&self, id: u64, name: &CStr) -> Result<()> {
        absent()
    }
}

fn absent<T>() -> Result<T> {
    Err(FsError::Refused(Errno::OPNOTSUPP))
}

impl Served for EncryptedFs {
    fn connected(&self, cache: Arc<dyn KernelCache>, waiting: Arc<dyn Waiting>) {
        self.connected(cache, waiting);
    }
    fn has_acl(&self) -> bool {
        self.options().ownership == Ownership::Native
    }
    fn give_back(&self, most: usize) {
        self.give_back(most);
    }
    fn seal_closed(&self) {
        self.seal_closed();
    }
    fn why_suspended(&self) -> FsError {
        self.why_suspended()
    }
    fn lookup(&self, parent: u64, name: &CStr) -> Result<Entry> {
        self.lookup(parent, name)
    }
    fn lookup_listed(&self, parent: u64, entry: &DirEntry<'_>) -> Result<Entry> {
        self.lookup_listed(parent, entry)
    }
    fn forget(&self, id: u64, count: u64) {
        self.forget(id, count);
    }
    fn getattr(&self, id: u64) -> Result<Attr> {
        self.getattr(id)
    }
    fn birth_time(&self, id: u64) -> Result<Option<Time>> {
        self.birth_time(id)
    }
    fn setattr(&self, id: u64, change: &SetAttr) -> Result<Attr> {
        self.setattr(id, change)
    }
    fn open(&self, id: u64, how: OpenHow) -> Result<()> {
        self.open(id, how)
    }
    fn prefetch(&self, id: u64, scratch: &mut Scratch) {
        self.prefetch(id, scratch);
    }
    fn new_handle(&self) -> u64 {
        self.new_handle()
    }
    fn release(&self, id: u64) {
        self.release(id);
    }
    fn read<'s>(&self, id: u64, offset: u64, len: usize, scratch: &'s mut Scratch) -> Result<&'s [u8]> {
        self.read(id, offset, len, scratch)
    }
    fn write(
        &self,
        id: u64,
        offset: u64,
        data: &[u8],
        how: WriteHow,
        scratch: &mut Scratch,
    ) -> Result<usize> {
        self.write(id, offset, data, how, scratch)
    }
    fn fsync(&self, id: u64, handle: u64, data_only: bool) -> Result<()> {
        self.fsync(id, handle, data_only)
    }
    fn create(
        &self,
        parent: u64,
        name: &CStr,
        mode: NewMode,
        caller: Caller,
        exclusive: bool,
        how: OpenHow,
    ) -> Result<Entry> {
        self.create(parent, name, mode, caller, exclusive, how)
    }
    fn mkdir(&self, parent: u64, name: &CStr, mode: NewMode, caller: Caller) -> Result<Entry> {
        self.mkdir(parent, name, mode, caller)
    }
    fn unlink(&self, parent: u64, name: &CStr) -> Result<()> {
        self.unlink(parent, name)
    }
    fn rmdir(&self, parent: u64, name: &CStr) -> Result<()> {
        self.rmdir(parent, name)
    }
    fn rename(
        &self,
        parent: u64,
        name: &CStr,
        new_parent: u64,
        new_name: &CStr,
        how: RenameHow,
    ) -> Result<()> {
        self.rename(parent, name, new_parent, new_name, how)
    }
    fn opendir(&self, id: u64) -> Result<u64> {
        self.opendir(id)
    }
    fn readdir(
        &self,
        handle: u64,
        offset: u64,
        buffer: &mut [MaybeUninit<u8>],
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.readdir(handle, offset, buffer, add)
    }
    fn releasedir(&self, handle: u64) {
        self.releasedir(handle);
    }
    fn fsyncdir(&self, handle: u64) -> Result<()> {
        self.fsyncdir(handle)
    }
    fn statfs(&self) -> Result<StorageSize> {
        self.statfs()
    }
    fn syncfs(&self) -> Result<()> {
        self.syncfs()
    }
    fn link(&self, id: u64, parent: u64, name: &CStr) -> Result<Entry> {
        self.link(id, parent, name)
    }
    fn symlink(&self, parent: u64, name: &CStr, target: &CStr, caller: Caller) -> Result<Entry> {
        self.symlink(parent, name, target, caller)
    }
    fn mknod(&self, parent: u64, name: &CStr, mode: NewMode, device: u64, caller: Caller) -> Result<Entry> {
        self.mknod(parent, name, mode, device, caller)
    }
    fn readlink(&self, id: u64) -> Result<Vec<u8>> {
        self.readlink(id)
    }
    fn fallocate(
        &self,
        id: u64,
        mode: u32,
        range: (u64, u64),
        clear_privileges: bool,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.fallocate(id, mode, range, clear_privileges, scratch)
    }
    fn seek(&self, id: u64, offset: u64, what: Seek) -> Result<u64> {
        self.seek(id, offset, what)
    }
    fn getxattr(&self, id: u64, name: &CStr) -> Result<Vec<u8>> {
        self.getxattr(id, name)
    }
    fn listxattr(&self, id: u64) -> Result<Vec<u8>> {
        self.listxattr(id)
    }
    fn setxattr(&self, id: u64, name: &CStr, value: &[u8], flags: u32, clear_privileges: bool) -> Result<()> {
        self.setxattr(id, name, value, flags, clear_privileges)
    }
    fn removexattr(&self, id: u64, name: &CStr) -> Result<()> {
        self.removexattr(id, name)
    }
}
