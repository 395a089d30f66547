//! From a request to the filesystem's method and back.
//!
//! Invariant: what must be durable or exact is either done or refused with `EOPNOTSUPP`; `ENOSYS`, which the kernel remembers,
//! is answered only where the kernel's own way of doing without is as good.

use std::mem::MaybeUninit;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{
    BatchForgetIn, CreateIn, EntryOut, FallocateIn, ForgetIn, ForgetOne, FsyncIn, GetxattrIn, GetxattrOut,
    InitIn, InitIn2, LinkIn, LseekIn, LseekOut, MkdirIn, MknodIn, Opcode, OpenIn, OpenOut, ReadIn, ReleaseIn,
    Rename2In, RenameIn, SetattrIn, SetxattrIn, WriteIn, WriteOut,
};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::convert;
use super::init::{Negotiated, negotiate};
use super::listing::Listing;
use super::reply::Reply;
use super::request::{HEADER, Request};
use super::served::Served;
use super::session::Shared;
use super::wipe::wipe_stack;
use crate::fs::{
    Buffer, Caller, DirEntry, FsError, MAX_IO, NewMode, OpenHow, RenameHow, Scratch, Seek, WriteHow,
};

/// Keep the pages of earlier opens: nobody else changes the file. No flush at close: writes are not delayed.
const OPEN_FLAGS: u32 = KEEP_CACHE | NO_FLUSH;
const KEEP_CACHE: u32 = 1 << 1;
const NO_FLUSH: u32 = 1 << 5;
/// Of `fuse_open_in.open_flags` and `fuse_create_in.open_flags`.
const OPEN_KILL_SUIDGID: u32 = 1;
/// Of `fuse_write_in.write_flags`.
const WRITE_CACHE: u32 = 1;
const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Of `fuse_fsync_in.fsync_flags`.
const FSYNC_DATA_ONLY: u32 = 1;
/// Of `fuse_setxattr_in.setxattr_flags`.
const ACL_KILL_SGID: u32 = 1;
/// Opcodes that the protocol types do not know.
const SYNCFS: u32 = 50;
const TMPFILE: u32 = 51;
const STATX: u32 = 52;
const COPY_FILE_RANGE_64: u32 = 53;
/// Room for the entries of a directory as the storage gives them.
const ENTRIES: usize = 32 * 1024;
/// The data of a write begins at a page, when the request begins so far before it.
const DATA_AT: usize = HEADER + size_of::<WriteIn>();

/// What a thread works with, for all its life.
pub struct Worker {
    request: Buffer,
    scratch: Scratch,
    entries: Vec<MaybeUninit<u8>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// A request that is being answered.
struct Call<'a> {
    shared: &'a Shared,
    request: Request<'a>,
}

/// What a request gets.
type Done<'s> = Result<Reply<'s>, FsError>;

impl Worker {
    pub fn new() -> Self {
        Self {
            request: Buffer::new(4096 + MAX_IO + 4096),
            scratch: Scratch::new(),
            entries: vec![MaybeUninit::uninit(); ENTRIES],
        }
    }

    /// Where the next request is read to.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.request.bytes()[4096 - DATA_AT..]
    }

    /// Wipes what requests before have left in the buffers and on the stack.
    pub fn wipe(&mut self) {
        self.request.wipe();
        self.scratch.wipe();
        wipe_stack();
    }

    /// Answers the request of `len` bytes that was read.
    pub fn handle(&mut self, shared: &Arc<Shared>, len: usize) {
        let Self { request, scratch, entries } = self;
        let bytes = &request.bytes()[4096 - DATA_AT..][..len];
        let Some(request) = Request::parse(bytes) else {
            tracing::warn!(len, "a request is not whole");
            return;
        };
        let unique = request.header.unique;
        match (Call { shared, request }).run(scratch, entries) {
            Ok(Reply::Nothing) => {}
            Ok(reply) => {
                shared.reply(unique, 0, reply.bytes());
                if let Reply::Init(_, agreed) = reply {
                    shared.has_started(agreed);
                }
            }
            Err(error) => shared.reply(unique, shared.errno(error), &[]),
        }
    }

    /// Answers a request of a ring: its error, and the bytes behind the header.
    pub fn answer<'s>(&'s mut self, shared: &Shared, request: Request<'_>) -> Result<Reply<'s>, i32> {
        let Self { scratch, entries, .. } = self;
        (Call { shared, request }).run(scratch, entries).map_err(|error| shared.errno(error))
    }
}

impl Call<'_> {
    /// Answers the request, or says why not.
    fn run<'s>(mut self, scratch: &'s mut Scratch, entries: &mut [MaybeUninit<u8>]) -> Done<'s> {
        match self.request.header.opcode {
            code if code == Opcode::Read as u32 => self.read(scratch),
            code if code == Opcode::Write as u32 => self.write(scratch),
            code if code == Opcode::Readdir as u32 => self.readdir(scratch, entries, false),
            code if code == Opcode::Readdirplus as u32 => self.readdir(scratch, entries, true),
            code if code == Opcode::Open as u32 => self.open(scratch),
            code if code == Opcode::Fallocate as u32 => self.fallocate(scratch),
            SYNCFS => {
                self.fs().syncfs()?;
                Ok(Reply::Empty)
            }
            STATX => {
                let attr = self.fs().getattr(self.request.node())?;
                let birth = self.fs().birth_time(self.request.node())?;
                Ok(Reply::of(&[&convert::statx(&attr, birth)]))
            }
            TMPFILE | COPY_FILE_RANGE_64 => Err(FsError::Refused(Errno::OPNOTSUPP)),
            // The answer to a question that was only to wake this thread; it wants none.
            code if code == Opcode::NotifyReply as u32 => Ok(Reply::Nothing),
            code if code == Opcode::Forget as u32 => {
                self.forget();
                Ok(Reply::Nothing)
            }
            code if code == Opcode::BatchForget as u32 => {
                self.batch_forget();
                Ok(Reply::Nothing)
            }
            code => self.run_small(Opcode::from(code)),
        }
    }

    fn run_small(&mut self, code: Opcode) -> Done<'static> {
        match code {
            Opcode::Lookup => self.lookup(),
            Opcode::Getattr => self.getattr(),
            Opcode::Setattr => self.setattr(),
            Opcode::Readlink => self.readlink(),
            Opcode::Symlink => self.symlink(),
            Opcode::Mknod => self.mknod(),
            Opcode::Mkdir => self.mkdir(),
            Opcode::Unlink => self.unlink(),
            Opcode::Rmdir => self.rmdir(),
            Opcode::Rename => self.rename(),
            Opcode::Rename2 => self.rename2(),
            Opcode::Link => self.link(),
            Opcode::Create => self.create(),
            Opcode::Release => self.release(),
            Opcode::Statfs => self.statfs(),
            Opcode::Fsync => self.fsync(),
            // Nothing is delayed that a close would have to wait for.
            Opcode::Flush | Opcode::Destroy => Ok(Reply::Empty),
            Opcode::Init => self.init(),
            Opcode::Opendir => self.opendir(),
            Opcode::Releasedir => self.releasedir(),
            Opcode::Fsyncdir => self.fsyncdir(),
            Opcode::Getxattr => self.getxattr(),
            Opcode::Setxattr => self.setxattr(),
            Opcode::Listxattr => self.listxattr(),
            Opcode::Removexattr => self.removexattr(),
            Opcode::Lseek => self.lseek(),
            // What is under way is finished; it gets its reply.
            Opcode::Interrupt => Ok(Reply::Nothing),
            Opcode::CopyFileRange => Err(FsError::Refused(Errno::OPNOTSUPP)),
            Opcode::Ioctl => Err(FsError::Refused(Errno::NOTTY)),
            _ => Err(FsError::Refused(Errno::NOSYS)),
        }
    }

    fn fs(&self) -> &dyn Served {
        &*self.shared.fs
    }

    fn caller(&self) -> Caller {
        Caller { uid: self.request.header.uid, gid: self.request.header.gid }
    }

    fn init(&mut self) -> Done<'static> {
        let offer: InitIn = self.request.take()?;
        let more: Option<InitIn2> = self.request.take_if_there();
        let acl = self.fs().has_acl();
        let Some((out, agreed)) = negotiate(&offer, more.as_ref(), acl, self.shared.trial) else {
            tracing::error!(
                major = offer.major,
                minor = offer.minor,
                "the kernel's fuse protocol is too old"
            );
            return Err(FsError::Refused(Errno::PROTO));
        };
        Ok(Reply::Init(out, agreed))
    }

    fn lookup(&mut self) -> Done<'static> {
        let name = self.request.name()?;
        match self.fs().lookup(self.request.node(), name) {
            Ok(entry) => Ok(Reply::of(&[convert::entry(&entry).as_slice()])),
            Err(error) if error.errno() == libc::ENOENT => Ok(Reply::of(&[convert::no_entry().as_slice()])),
            Err(error) => Err(error),
        }
    }

    /// Gets no reply, whatever it says.
    fn forget(&mut self) {
        if let Ok(ForgetIn { nlookup }) = self.request.take() {
            self.fs().forget(self.request.node(), nlookup);
        }
    }

    fn batch_forget(&mut self) {
        let Ok(BatchForgetIn { count, .. }) = self.request.take() else { return };
        for _ in 0..count {
            let Ok(ForgetOne { nodeid, nlookup }) = self.request.take() else { return };
            self.fs().forget(nodeid, nlookup);
        }
    }

    fn getattr(&mut self) -> Done<'static> {
        let attr = self.fs().getattr(self.request.node())?;
        Ok(Reply::of(&[convert::attr_out(&attr).as_slice()]))
    }

    fn setattr(&mut self) -> Done<'static> {
        let change: SetattrIn = self.request.take()?;
        let attr = self.fs().setattr(self.request.node(), &convert::set_attr(&change))?;
        Ok(Reply::of(&[convert::attr_out(&attr).as_slice()]))
    }

    fn readlink(&mut self) -> Done<'static> {
        let target = self.fs().readlink(self.request.node())?;
        Ok(Reply::Owned(target))
    }

    fn symlink(&mut self) -> Done<'static> {
        let (name, target) = (self.request.name()?, self.request.name()?);
        let entry = self.fs().symlink(self.request.node(), name, target, self.caller())?;
        Ok(Reply::of(&[convert::entry(&entry).as_slice()]))
    }

    fn mknod(&mut self) -> Done<'static> {
        let MknodIn { mode, rdev, umask, .. } = self.request.take()?;
        let name = self.request.name()?;
        let mode = new_mode(mode, umask);
        let entry =
            self.fs().mknod(self.request.node(), name, mode, convert::decode_device(rdev), self.caller())?;
        Ok(Reply::of(&[convert::entry(&entry).as_slice()]))
    }

    fn mkdir(&mut self) -> Done<'static> {
        let MkdirIn { mode, umask } = self.request.take()?;
        let name = self.request.name()?;
        let mode = new_mode(mode, umask);
        let entry = self.fs().mkdir(self.request.node(), name, mode, self.caller())?;
        Ok(Reply::of(&[convert::entry(&entry).as_slice()]))
    }

    fn unlink(&mut self) -> Done<'static> {
        let name = self.request.name()?;
        self.fs().unlink(self.request.node(), name)?;
        Ok(Reply::Empty)
    }

    fn rmdir(&mut self) -> Done<'static> {
        let name = self.request.name()?;
        self.fs().rmdir(self.request.node(), name)?;
        Ok(Reply::Empty)
    }

    fn rename(&mut self) -> Done<'static> {
        let RenameIn { newdir } = self.request.take()?;
        self.rename_to(newdir, RenameHow::Replace)
    }

    fn rename2(&mut self) -> Done<'static> {
        let Rename2In { newdir, flags, .. } = self.request.take()?;
        let how = match flags {
            0 => RenameHow::Replace,
            libc::RENAME_NOREPLACE => RenameHow::NoReplace,
            libc::RENAME_EXCHANGE => RenameHow::Exchange,
            _ => return Err(FsError::Refused(Errno::INVAL)),
        };
        self.rename_to(newdir, how)
    }

    fn rename_to(&mut self, parent: u64, how: RenameHow) -> Done<'static> {
        let (name, new_name) = (self.request.name()?, self.request.name()?);
        self.fs().rename(self.request.node(), name, parent, new_name, how)?;
        Ok(Reply::Empty)
    }

    fn link(&mut self) -> Done<'static> {
        let LinkIn { oldnodeid } = self.request.take()?;
        let name = self.request.name()?;
        let entry = self.fs().link(oldnodeid, self.request.node(), name)?;
        Ok(Reply::of(&[convert::entry(&entry).as_slice()]))
    }

    fn open<'s>(&mut self, scratch: &'s mut Scratch) -> Done<'s> {
        let OpenIn { flags, fuse_flags } = self.request.take()?;
        self.fs().open(self.request.node(), open_how(flags, fuse_flags))?;
        self.fs().prefetch(self.request.node(), scratch);
        Ok(Reply::of(&[self.opened().as_slice()]))
    }

    fn create(&mut self) -> Done<'static> {
        let CreateIn { flags, mode, umask, fuse_flags } = self.request.take()?;
        let name = self.request.name()?;
        let exclusive = flags & libc::O_EXCL as u32 != 0;
        let (mode, how) = (new_mode(mode, umask), open_how(flags, fuse_flags));
        let (node, caller) = (self.request.node(), self.caller());
        let entry = self.fs().create(node, name, mode, caller, exclusive, how)?;
        Ok(Reply::of(&[convert::entry(&entry).as_slice(), self.opened().as_slice()]))
    }

    /// A file was opened.
    fn opened(&self) -> OpenOut {
        OpenOut { fh: self.fs().new_handle(), open_flags: OPEN_FLAGS, ..OpenOut::default() }
    }

    fn release(&mut self) -> Done<'static> {
        let _: ReleaseIn = self.request.take()?;
        self.fs().release(self.request.node());
        Ok(Reply::Empty)
    }

    fn read<'s>(&mut self, scratch: &'s mut Scratch) -> Done<'s> {
        let ReadIn { offset, size, .. } = self.request.take()?;
        let data = self.fs().read(self.request.node(), offset, size as usize, scratch)?;
        Ok(Reply::Data(data))
    }

    fn write<'s>(&mut self, scratch: &'s mut Scratch) -> Done<'s> {
        let WriteIn { offset, size, fuse_flags, .. } = self.request.take()?;
        let data = self.request.bytes(size as usize)?;
        let how = WriteHow {
            writeback: fuse_flags & WRITE_CACHE != 0,
            clear_privileges: fuse_flags & WRITE_KILL_SUIDGID != 0,
        };
        let written = self.fs().write(self.request.node(), offset, data, how, scratch)?;
        Ok(Reply::of(&[WriteOut { size: written as u32, padding: 0 }.as_slice()]))
    }

    fn fallocate<'s>(&mut self, scratch: &'s mut Scratch) -> Done<'s> {
        let FallocateIn { offset, length, mode, .. } = self.request.take()?;
        // The kernel does not say whether the caller may keep privileges; root may.
        let clear = self.request.header.uid != 0;
        self.fs().fallocate(self.request.node(), mode, (offset, length), clear, scratch)?;
        Ok(Reply::Empty)
    }

    fn lseek(&mut self) -> Done<'static> {
        let LseekIn { offset, whence, .. } = self.request.take()?;
        let what = match whence as i32 {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(FsError::Refused(Errno::INVAL)),
        };
        let offset = self.fs().seek(self.request.node(), offset, what)?;
        Ok(Reply::of(&[LseekOut { offset }.as_slice()]))
    }

    fn fsync(&mut self) -> Done<'static> {
        let FsyncIn { fh, fsync_flags, .. } = self.request.take()?;
        self.fs().fsync(self.request.node(), fh, fsync_flags & FSYNC_DATA_ONLY != 0)?;
        Ok(Reply::Empty)
    }

    fn statfs(&mut self) -> Done<'static> {
        let size = self.fs().statfs()?;
        Ok(Reply::of(&[convert::statfs(&size).as_slice()]))
    }

    fn opendir(&mut self) -> Done<'static> {
        let fh = self.fs().opendir(self.request.node())?;
        Ok(Reply::of(&[OpenOut { fh, ..OpenOut::default() }.as_slice()]))
    }

    fn releasedir(&mut self) -> Done<'static> {
        let ReleaseIn { fh, .. } = self.request.take()?;
        self.fs().releasedir(fh);
        Ok(Reply::Empty)
    }

    fn fsyncdir(&mut self) -> Done<'static> {
        let FsyncIn { fh, .. } = self.request.take()?;
        self.fs().fsyncdir(fh)?;
        Ok(Reply::Empty)
    }

    fn readdir<'s>(
        &mut self,
        scratch: &'s mut Scratch,
        entries: &mut [MaybeUninit<u8>],
        plus: bool,
    ) -> Done<'s> {
        let ReadIn { fh, offset, size, .. } = self.request.take()?;
        let out = scratch.reply(size as usize);
        let room = out.len().clamp(2048, entries.len());
        let mut listing = Listing::new(out);
        let parent = self.request.node();
        self.fs().readdir(fh, offset, &mut entries[..room], &mut |entry: &DirEntry<'_>| {
            if !listing.has_room(entry, plus) {
                return false;
            }
            if plus {
                let dots = matches!(entry.name.to_bytes(), b"." | b"..");
                let found = if dots { None } else { self.fs().lookup_listed(parent, entry).ok() };
                // Without an inode the kernel looks the name up when it needs it.
                let attributes = found.as_ref().map_or_else(EntryOut::default, convert::entry);
                listing.add(entry, Some(&attributes));
            } else {
                listing.add(entry, None);
            }
            true
        })?;
        let len = listing.len();
        Ok(Reply::Data(&scratch.reply(size as usize)[..len]))
    }

    fn getxattr(&mut self) -> Done<'static> {
        let GetxattrIn { size, .. } = self.request.take()?;
        let name = self.request.name()?;
        let value = self.fs().getxattr(self.request.node(), name)?;
        sized(value, size)
    }

    fn listxattr(&mut self) -> Done<'static> {
        let GetxattrIn { size, .. } = self.request.take()?;
        let names = self.fs().listxattr(self.request.node())?;
        sized(names, size)
    }

    fn setxattr(&mut self) -> Done<'static> {
        let SetxattrIn { size, flags } = self.request.take()?;
        let extended = self.shared.negotiated.get().is_some_and(Negotiated::setxattr_ext);
        let more: u64 = if extended { self.request.take()? } else { 0 };
        let name = self.request.name()?;
        let value = self.request.bytes(size as usize)?;
        let clear = more as u32 & ACL_KILL_SGID != 0;
        self.fs().setxattr(self.request.node(), name, value, flags, clear)?;
        Ok(Reply::Empty)
    }

    fn removexattr(&mut self) -> Done<'static> {
        let name = self.request.name()?;
        self.fs().removexattr(self.request.node(), name)?;
        Ok(Reply::Empty)
    }
}

/// Without `DONT_MASK` the kernel applied the umask already; applying it again changes nothing.
fn new_mode(mode: u32, umask: u32) -> NewMode {
    NewMode { mode, umask: umask & 0o777 }
}

fn open_how(flags: u32, fuse_flags: u32) -> OpenHow {
    let access = flags as i32 & libc::O_ACCMODE;
    OpenHow {
        write: access != libc::O_RDONLY,
        truncate: flags as i32 & libc::O_TRUNC != 0,
        clear_privileges: fuse_flags & OPEN_KILL_SUIDGID != 0,
    }
}

/// Who asks with size 0 wants to know the size.
fn sized(value: Vec<u8>, size: u32) -> Done<'static> {
    if size == 0 {
        let out = GetxattrOut { size: value.len() as u32, padding: 0 };
        return Ok(Reply::of(&[out.as_slice()]));
    }
    if value.len() > size as usize {
        return Err(FsError::Refused(Errno::RANGE));
    }
    Ok(Reply::Owned(value))
}
