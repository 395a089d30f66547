//! What the storage answers.
//!
//! Invariant: it behaves as a local filesystem would, as far as the filesystem under test uses one; every change goes through
//! [`Recording::commit`] or [`Recording::write`].

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fuse_backend_rs::abi::fuse_abi::{
    AttrOut, CreateIn, Dirent, FallocateIn, FsyncIn, GetxattrIn, GetxattrOut, InitIn, InitOut, Kstatfs,
    LinkIn, LseekIn, LseekOut, MkdirIn, Opcode, OpenOut, ReadIn, Rename2In, RenameIn, SetattrIn, SetxattrIn,
    StatfsOut, WriteIn, WriteOut,
};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::data::Data;
use super::image::{Attrs, Body, Change, Place};
use super::request::{Request, attr, entry};
use super::server::MAX_IO;
use super::store::{Id, Recording, Store};

type Answer = Result<Vec<u8>, Errno>;

/// `FUSE_BIG_WRITES`, `FUSE_MAX_PAGES`, `FUSE_HANDLE_KILLPRIV_V2`.
const FLAGS: u32 = (1 << 5) | (1 << 22) | (1 << 28);
const DIRECT_IO: u32 = 1;
const KEEP_SIZE: u32 = 1;
const PUNCH: u32 = 2 | KEEP_SIZE;
const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;
const SET_MODE: u32 = 1;
const SET_UID: u32 = 1 << 1;
const SET_GID: u32 = 1 << 2;
const SET_SIZE: u32 = 1 << 3;
/// The bits of both times, each given or now.
const SET_TIMES: [(u32, u32); 2] = [(1 << 4, 1 << 7), (1 << 5, 1 << 8)];

/// A request to a volume's inode.
struct Call<'a, 'b> {
    id: Id,
    volume: &'a mut Recording,
    request: &'a mut Request<'b>,
}

/// The answer; `None` where the kernel expects none.
pub fn answer(store: &mut Store, request: &mut Request<'_>) -> Option<Answer> {
    let id = Id::of(request.header.nodeid);
    match request.header.opcode {
        code if code == Opcode::Init as u32 => Some(init(request)),
        code if code == Opcode::Forget as u32 || code == Opcode::BatchForget as u32 => None,
        code if code == Opcode::Interrupt as u32 => None,
        code if code == Opcode::Statfs as u32 => Some(Ok(statfs())),
        code if id.volume == 0 => Some(directory_of_volumes(store, request, code)),
        _ => {
            let Some(volume) = store.volume(id.volume) else { return Some(Err(Errno::STALE)) };
            Some(Call { id, volume, request }.run())
        }
    }
}

fn init(request: &mut Request<'_>) -> Answer {
    let offer: InitIn = request.take()?;
    let out = InitOut {
        major: 7,
        minor: offer.minor.min(41),
        max_readahead: offer.max_readahead,
        flags: offer.flags & FLAGS,
        max_background: 16,
        congestion_threshold: 12,
        max_write: MAX_IO as u32,
        time_gran: 1,
        max_pages: (MAX_IO / 4096) as u16,
        ..InitOut::default()
    };
    Ok(out.as_slice().to_vec())
}

fn statfs() -> Vec<u8> {
    let st = Kstatfs {
        blocks: 1 << 20,
        bfree: 1 << 19,
        bavail: 1 << 19,
        files: 1 << 20,
        ffree: 1 << 19,
        bsize: 4096,
        namelen: 255,
        frsize: 4096,
        ..Kstatfs::default()
    };
    StatfsOut { st }.as_slice().to_vec()
}

/// The root of the mount, in which each volume is a directory.
fn directory_of_volumes(store: &mut Store, request: &mut Request<'_>, code: u32) -> Answer {
    let node = super::image::Image::new().nodes[&super::image::ROOT].clone();
    match code {
        code if code == Opcode::Lookup as u32 => {
            let id = store.named(&request.name()?).ok_or(Errno::NOENT)?;
            let volume = store.volume(id.volume).ok_or(Errno::NOENT)?;
            Ok(entry(id.number(), &volume.image.nodes[&id.ino]).as_slice().to_vec())
        }
        code if code == Opcode::Getattr as u32 => {
            let out = AttrOut { attr: attr(1, &node), ..AttrOut::default() };
            Ok(out.as_slice().to_vec())
        }
        code if code == Opcode::Opendir as u32 => Ok(OpenOut::default().as_slice().to_vec()),
        _ => Ok(Vec::new()),
    }
}

impl Call<'_, '_> {
    fn run(&mut self) -> Answer {
        const DATA: [Opcode; 6] =
            [Opcode::Read, Opcode::Write, Opcode::Fallocate, Opcode::Lseek, Opcode::Fsync, Opcode::Fsyncdir];
        const NAMES: [Opcode; 9] = [
            Opcode::Lookup,
            Opcode::Create,
            Opcode::Mkdir,
            Opcode::Symlink,
            Opcode::Link,
            Opcode::Unlink,
            Opcode::Rmdir,
            Opcode::Rename,
            Opcode::Rename2,
        ];
        let code = self.request.header.opcode;
        let is = |known: &&Opcode| **known as u32 == code;
        if let Some(known) = DATA.iter().find(is) {
            return self.data(*known);
        }
        if let Some(known) = NAMES.iter().find(is) {
            return self.names(*known);
        }
        self.other(code)
    }

    fn data(&mut self, code: Opcode) -> Answer {
        let ino = self.id.ino;
        match code {
            Opcode::Read => {
                let read: ReadIn = self.request.take()?;
                Ok(self.file()?.read(read.offset, read.size as usize))
            }
            Opcode::Write => {
                let write: WriteIn = self.request.take()?;
                let bytes = self.request.bytes(write.size as usize)?;
                self.file()?;
                let size = self.volume.write(ino, write.offset, bytes)? as u32;
                self.touch();
                Ok(WriteOut { size, padding: 0 }.as_slice().to_vec())
            }
            Opcode::Fallocate => self.fallocate(),
            Opcode::Lseek => {
                let seek: LseekIn = self.request.take()?;
                let data = self.file()?;
                let found =
                    if seek.whence == 3 { data.next_data(seek.offset) } else { data.next_hole(seek.offset) };
                Ok(LseekOut { offset: found.ok_or(Errno::NXIO)? }.as_slice().to_vec())
            }
            Opcode::Fsync => {
                let data_only = self.request.take::<FsyncIn>()?.fsync_flags & 1 != 0;
                self.volume.commit(Change::Sync { ino, data_only }).map(|()| Vec::new())
            }
            _ => self.volume.commit(Change::SyncNames { ino }).map(|()| Vec::new()),
        }
    }

    fn fallocate(&mut self) -> Answer {
        let ask: FallocateIn = self.request.take()?;
        let (ino, end, size) = (self.id.ino, ask.offset + ask.length, self.file()?.size);
        match ask.mode {
            0 if end > size => self.volume.commit(Change::SetLen { ino, len: end })?,
            0 | KEEP_SIZE => self.volume.commit(Change::Allocate { ino })?,
            PUNCH => self.volume.commit(Change::Punch { ino, start: ask.offset, end })?,
            _ => return Err(Errno::OPNOTSUPP),
        }
        Ok(Vec::new())
    }

    fn names(&mut self, code: Opcode) -> Answer {
        let dir = self.id.ino;
        match code {
            Opcode::Lookup => {
                let at = (dir, self.request.name()?);
                self.entry(&at)
            }
            Opcode::Create => {
                let ask: CreateIn = self.request.take()?;
                let at = (dir, self.request.name()?);
                self.make(&at, Body::File(Data::default()), (ask.mode & 0o7777 & !ask.umask) | 0o100_000)?;
                let mut answer = self.entry(&at)?;
                let opened = OpenOut { open_flags: DIRECT_IO, ..OpenOut::default() };
                answer.extend_from_slice(opened.as_slice());
                Ok(answer)
            }
            Opcode::Mkdir => {
                let ask: MkdirIn = self.request.take()?;
                let at = (dir, self.request.name()?);
                self.make(&at, Body::Dir(BTreeMap::new()), (ask.mode & 0o7777 & !ask.umask) | 0o040_000)?;
                self.entry(&at)
            }
            Opcode::Symlink => {
                let at = (dir, self.request.name()?);
                let target = self.request.name()?;
                self.make(&at, Body::Link(target), 0o120_777)?;
                self.entry(&at)
            }
            Opcode::Link => {
                let old: LinkIn = self.request.take()?;
                let at = (dir, self.request.name()?);
                self.is_free(&at)?;
                self.volume.commit(Change::Link { at: at.clone(), ino: Id::of(old.oldnodeid).ino })?;
                self.entry(&at)
            }
            Opcode::Unlink | Opcode::Rmdir => {
                let at = (dir, self.request.name()?);
                let ino = self.volume.image.find(&at).ok_or(Errno::NOENT)?;
                if self.volume.image.entries(ino).is_some_and(|entries| !entries.is_empty()) {
                    return Err(Errno::NOTEMPTY);
                }
                self.volume.commit(Change::Remove { at }).map(|()| Vec::new())
            }
            _ => self.rename(code),
        }
    }

    fn rename(&mut self, code: Opcode) -> Answer {
        let (new, flags) = if let Opcode::Rename2 = code {
            let ask: Rename2In = self.request.take()?;
            (ask.newdir, ask.flags)
        } else {
            (self.request.take::<RenameIn>()?.newdir, 0)
        };
        let from = (self.id.ino, self.request.name()?);
        let to = (Id::of(new).ino, self.request.name()?);
        self.volume.image.find(&from).ok_or(Errno::NOENT)?;
        let there = self.volume.image.find(&to);
        if there.is_some() && flags & NOREPLACE != 0 {
            return Err(Errno::EXIST);
        }
        if there.is_none() && flags & EXCHANGE != 0 {
            return Err(Errno::NOENT);
        }
        let entries = there.and_then(|ino| self.volume.image.entries(ino));
        if flags & EXCHANGE == 0 && entries.is_some_and(|entries| !entries.is_empty()) {
            return Err(Errno::NOTEMPTY);
        }
        self.volume.commit(Change::Rename { from, to, exchange: flags & EXCHANGE != 0 }).map(|()| Vec::new())
    }

    fn other(&mut self, code: u32) -> Answer {
        match code {
            code if code == Opcode::Getattr as u32 => self.attributes(),
            code if code == Opcode::Setattr as u32 => self.set_attributes(),
            code if code == Opcode::Open as u32 => {
                Ok(OpenOut { open_flags: DIRECT_IO, ..OpenOut::default() }.as_slice().to_vec())
            }
            code if code == Opcode::Opendir as u32 => Ok(OpenOut::default().as_slice().to_vec()),
            code if code == Opcode::Release as u32 || code == Opcode::Releasedir as u32 => Ok(Vec::new()),
            code if code == Opcode::Readlink as u32 => match &self.volume.image.nodes[&self.id.ino].body {
                Body::Link(target) => Ok(target.clone()),
                Body::File(_) | Body::Dir(_) => Err(Errno::INVAL),
            },
            code if code == Opcode::Readdir as u32 => self.listing(),
            code if code == Opcode::Getxattr as u32 => self.get_xattr(),
            code if code == Opcode::Listxattr as u32 => {
                let xattrs = &self.attrs()?.xattrs;
                let names = xattrs.keys().flat_map(|name| [name, &b"\0"[..]].concat()).collect();
                self.sized(names)
            }
            code if code == Opcode::Setxattr as u32 => {
                let ask: SetxattrIn = self.request.take()?;
                let name = self.request.name()?;
                let value = self.request.bytes(ask.size as usize)?.to_vec();
                self.change_attrs(|attrs| drop(attrs.xattrs.insert(name, value)))
            }
            code if code == Opcode::Removexattr as u32 => {
                let name = self.request.name()?;
                self.attrs()?.xattrs.get(&name).ok_or(Errno::NODATA)?;
                self.change_attrs(|attrs| drop(attrs.xattrs.remove(&name)))
            }
            _ => Err(Errno::NOSYS),
        }
    }

    fn get_xattr(&mut self) -> Answer {
        let size = self.request.take::<GetxattrIn>()?.size;
        let name = self.request.name()?;
        let value = self.attrs()?.xattrs.get(&name).cloned().ok_or(Errno::NODATA)?;
        reply_sized(size, value)
    }

    fn sized(&mut self, value: Vec<u8>) -> Answer {
        let size = self.request.take::<GetxattrIn>()?.size;
        reply_sized(size, value)
    }

    fn attributes(&self) -> Answer {
        let node = self.volume.image.nodes.get(&self.id.ino).ok_or(Errno::STALE)?;
        let out = AttrOut { attr_valid: 3600, attr: attr(self.id.number(), node), ..AttrOut::default() };
        Ok(out.as_slice().to_vec())
    }

    fn set_attributes(&mut self) -> Answer {
        let ask: SetattrIn = self.request.take()?;
        let ino = self.id.ino;
        if ask.valid & SET_SIZE != 0 {
            self.file()?;
            self.volume.commit(Change::SetLen { ino, len: ask.size })?;
            self.touch();
        }
        let mut attrs = self.attrs()?.clone();
        if ask.valid & SET_MODE != 0 {
            attrs.mode = (attrs.mode & !0o7777) | (ask.mode & 0o7777);
        }
        if ask.valid & SET_UID != 0 {
            attrs.uid = ask.uid;
        }
        if ask.valid & SET_GID != 0 {
            attrs.gid = ask.gid;
        }
        let given = [(ask.atime, ask.atimensec), (ask.mtime, ask.mtimensec)];
        for ((time, given), (bit, bit_now)) in attrs.times.iter_mut().zip(given).zip(SET_TIMES) {
            if ask.valid & bit_now != 0 {
                *time = now();
            } else if ask.valid & bit != 0 {
                *time = given;
            }
        }
        if attrs != *self.attrs()? {
            self.volume.commit(Change::Attrs { ino, attrs })?;
        }
        self.attributes()
    }

    fn listing(&mut self) -> Answer {
        let ask: ReadIn = self.request.take()?;
        let entries = self.volume.image.entries(self.id.ino).ok_or(Errno::NOTDIR)?;
        let dots = [(&b"."[..], self.id.ino), (&b".."[..], self.id.ino)];
        let all = dots.into_iter().chain(entries.iter().map(|(name, ino)| (&name[..], *ino)));
        let mut out = Vec::new();
        for (at, (name, ino)) in all.enumerate().skip(ask.offset as usize) {
            let kind = self.volume.image.nodes[&ino].attrs.mode >> 12;
            let number = Id { ino, ..self.id }.number();
            let head = Dirent { ino: number, off: at as u64 + 1, namelen: name.len() as u32, type_: kind };
            let len = (size_of::<Dirent>() + name.len()).next_multiple_of(8);
            if out.len() + len > ask.size as usize {
                break;
            }
            let end = out.len() + len;
            out.extend_from_slice(head.as_slice());
            out.extend_from_slice(name);
            out.resize(end, 0);
        }
        Ok(out)
    }

    fn make(&mut self, at: &Place, body: Body, mode: u32) -> Result<(), Errno> {
        self.is_free(at)?;
        let (uid, gid) = (self.request.header.uid, self.request.header.gid);
        let attrs = Attrs { mode, uid, gid, xattrs: BTreeMap::new(), times: [now(); 2] };
        let ino = self.volume.image.next_ino();
        self.volume.commit(Change::Create { at: at.clone(), ino, body, attrs })
    }

    fn is_free(&self, at: &Place) -> Result<(), Errno> {
        if self.volume.image.find(at).is_some() { Err(Errno::EXIST) } else { Ok(()) }
    }

    fn entry(&self, at: &Place) -> Answer {
        let ino = self.volume.image.find(at).ok_or(Errno::NOENT)?;
        let number = Id { ino, ..self.id }.number();
        Ok(entry(number, &self.volume.image.nodes[&ino]).as_slice().to_vec())
    }

    fn file(&self) -> Result<&Data, Errno> {
        self.volume.image.data(self.id.ino).ok_or(Errno::STALE)
    }

    fn attrs(&self) -> Result<&Attrs, Errno> {
        self.volume.image.nodes.get(&self.id.ino).map(|node| &node.attrs).ok_or(Errno::STALE)
    }

    fn change_attrs(&mut self, change: impl FnOnce(&mut Attrs)) -> Answer {
        let mut attrs = self.attrs()?.clone();
        change(&mut attrs);
        self.volume.commit(Change::Attrs { ino: self.id.ino, attrs }).map(|()| Vec::new())
    }

    /// A change of the contents sets the time, which no crash test asks for: it is not recorded.
    fn touch(&mut self) {
        if let Some(node) = self.volume.image.nodes.get_mut(&self.id.ino) {
            node.attrs.times[1] = now();
        }
    }
}

fn reply_sized(size: u32, value: Vec<u8>) -> Answer {
    if size == 0 {
        return Ok(GetxattrOut { size: value.len() as u32, padding: 0 }.as_slice().to_vec());
    }
    if value.len() > size as usize { Err(Errno::RANGE) } else { Ok(value) }
}

fn now() -> (u64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}
