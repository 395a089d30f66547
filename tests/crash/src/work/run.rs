//! Workloads as calls of the real filesystem, over whatever directory holds the volume.
//!
//! Invariant: the filesystem's methods are called as its FUSE adapter calls them; each file is opened for an operation and
//! given back after it.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use envelope::{Geometry, GroupId, GroupKey, HeaderRegion, Ownership, Preamble, VolumeId};
use sidecar::fs::{
    Caller, EncryptedFs, Entry, FsError, MemoryKeys, NewMode, OpenHow, Options, ROOT, RenameHow, Scratch,
    SetAttr, WriteHow,
};
use sidecar::sweep::region_file::{Durability, alone, open_regular, replace};

use super::op::{Op, Path};

const KEEP_SIZE: u32 = 1;
const PUNCH: u32 = 2 | KEEP_SIZE;
const ZERO: u32 = 16;
/// The extended attribute of the workloads.
pub const XATTR: &std::ffi::CStr = c"user.test";

/// The volumes of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// As most are.
    #[default]
    Plain,
    /// Without holes.
    Strict,
    /// With headers of two pages, a slot in each.
    TwoPages,
    /// Owners and modes in attributes of ours.
    Virtual,
    /// Files are sealed as soon as they are closed.
    Seal,
}

impl Kind {
    /// The kind that a line begins with, and the rest of it.
    pub fn split(line: &str) -> (Self, &str) {
        let kinds = [Self::Strict, Self::TwoPages, Self::Virtual, Self::Seal];
        let found = kinds.iter().find_map(|kind| Some((*kind, line.strip_prefix(&kind.to_string())?)));
        found.unwrap_or((Self::Plain, line))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "",
            Self::Strict => "strict: ",
            Self::TwoPages => "two pages: ",
            Self::Virtual => "virtual: ",
            Self::Seal => "seal: ",
        })
    }
}

/// How the volume of a test is served.
#[derive(Clone)]
pub struct Volume {
    kind: Kind,
    /// Its keys, which outlive each crash as a KMS does.
    pub keys: Arc<MemoryKeys>,
    options: Options,
}

impl Volume {
    /// A volume of this kind.
    pub fn new(kind: Kind) -> Self {
        let volume = VolumeId([1; 16]);
        let key = GroupKey::from_slice(&[7; 32]).unwrap();
        let keys = Arc::new(MemoryKeys::with_key(volume, GroupId([2; 16]), key).unwrap());
        let geometry = Geometry::new(if kind == Kind::TwoPages { 2 } else { 1 }).unwrap();
        let options = Options {
            volume,
            geometry,
            ownership: if kind == Kind::Virtual { Ownership::Virtual } else { Ownership::Native },
            strict: kind == Kind::Strict,
            seal: kind == Kind::Seal,
            read_only: false,
            storage_entries: Vec::new(),
        };
        Self { kind, keys, options }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of a header.
    pub fn header_len(&self) -> u64 {
        self.options.geometry.header_len()
    }

    /// Serves the volume in the directory `root`.
    pub fn serve(&self, root: PathBuf) -> Result<App, FsError> {
        let dir = std::fs::File::open(&root)?;
        let fs = EncryptedFs::new(dir.as_fd(), self.options.clone(), Arc::clone(&self.keys) as _)?;
        Ok(App { fs, volume: self.clone(), root, scratch: Scratch::new(), rotations: 0 })
    }
}

/// An application, and the filesystem that it uses.
pub struct App {
    /// The filesystem.
    pub fs: EncryptedFs,
    volume: Volume,
    root: PathBuf,
    scratch: Scratch,
    rotations: u32,
}

type Done = Result<(), FsError>;

impl App {
    /// Does one operation; `data` is what it writes, if it does. What it closed is sealed then.
    pub fn run(&mut self, op: Op, data: &[u8]) -> Done {
        let done = self.run_op(op, data);
        self.fs.seal_closed();
        done
    }

    fn run_op(&mut self, op: Op, data: &[u8]) -> Done {
        match op {
            Op::Create(path) => self.create(path).map(drop),
            Op::Append(path, _) => {
                let id = self.open(path, true)?;
                let result = self.fs.getattr(id).and_then(|attr| self.write(id, attr.size, data));
                self.close(id, result)
            }
            Op::Write(path, at, _) => {
                let id = self.open(path, true)?;
                let result = self.write(id, at, data);
                self.close(id, result)
            }
            Op::Size(path, size) => {
                let change = SetAttr { size: Some(size), ..SetAttr::default() };
                self.fs.setattr(self.id(path)?, &change).map(drop)
            }
            Op::Allocate(path, at, len) => self.fallocate(path, 0, at, len),
            Op::Punch(path, at, len) => self.fallocate(path, PUNCH, at, len),
            Op::Zero(path, at, len) => self.fallocate(path, ZERO, at, len),
            Op::SetXattr(path) => self.fs.setxattr(self.id(path)?, XATTR, data, 0, false),
            Op::RemoveXattr(path) => self.fs.removexattr(self.id(path)?, XATTR),
            Op::Rewrap(path) => {
                self.rotate();
                let id = self.open(path, false)?;
                self.close(id, Ok(()))
            }
            Op::Sweep(path) => self.sweep(path),
            _ => self.run_names(op),
        }
    }

    fn run_names(&mut self, op: Op) -> Done {
        match op {
            Op::Rename(from, to) => self.rename(from, to, RenameHow::Replace),
            Op::Exchange(from, to) => self.rename(from, to, RenameHow::Exchange),
            Op::RenameOpen(from, to) => {
                let id = self.open(to, false)?;
                let result = self.rename(from, to, RenameHow::Replace);
                self.close(id, result)
            }
            Op::Link(from, to) => {
                let (parent, name) = self.place(to)?;
                self.fs.link(self.id(from)?, parent, &name).map(drop)
            }
            Op::Unlink(path) => {
                let (parent, name) = self.place(path)?;
                self.fs.unlink(parent, &name)
            }
            Op::UnlinkOpen(path) => {
                let id = self.open(path, false)?;
                let (parent, name) = self.place(path)?;
                let result = self.fs.unlink(parent, &name);
                self.close(id, result)
            }
            Op::Mkdir(path) => {
                let (parent, name) = self.place(path)?;
                self.fs.mkdir(parent, &name, NewMode { mode: 0o755, umask: 0 }, me()).map(drop)
            }
            Op::Rmdir(path) => {
                let (parent, name) = self.place(path)?;
                self.fs.rmdir(parent, &name)
            }
            Op::Symlink(path) => {
                let (parent, name) = self.place(path)?;
                self.fs.symlink(parent, &name, c"d/C", me()).map(drop)
            }
            _ => self.run_sync(op),
        }
    }

    fn run_sync(&mut self, op: Op) -> Done {
        match op {
            Op::Fsync(path) | Op::Fdatasync(path) => {
                let id = self.open(path, false)?;
                let result = self.fs.fsync(id, self.fs.new_handle(), matches!(op, Op::Fdatasync(_)));
                self.close(id, result)
            }
            Op::SyncDir(path) => {
                let handle = self.fs.opendir(self.id(path)?)?;
                let result = self.fs.fsyncdir(handle);
                self.fs.releasedir(handle);
                result
            }
            _ => self.fs.syncfs(),
        }
    }

    /// Makes an empty file and closes it.
    pub fn create(&mut self, path: &str) -> Result<Entry, FsError> {
        let (parent, name) = self.place(path)?;
        let how = OpenHow { write: true, ..OpenHow::default() };
        let entry = self.fs.create(parent, &name, NewMode { mode: 0o644, umask: 0 }, me(), true, how)?;
        self.fs.release(entry.id);
        Ok(entry)
    }

    /// The inode of a path.
    pub fn id(&self, path: &str) -> Result<u64, FsError> {
        if path == "/" {
            return Ok(ROOT);
        }
        let (parent, name) = self.place(path)?;
        Ok(self.fs.lookup(parent, &name)?.id)
    }

    /// Opens a file.
    pub fn open(&self, path: &str, write: bool) -> Result<u64, FsError> {
        let id = self.id(path)?;
        self.fs.open(id, OpenHow { write, ..OpenHow::default() })?;
        Ok(id)
    }

    /// Writes all of `data`.
    pub fn write(&mut self, id: u64, mut at: u64, mut data: &[u8]) -> Done {
        while !data.is_empty() {
            let written = self.fs.write(id, at, data, WriteHow::default(), &mut self.scratch)?;
            at += written as u64;
            data = &data[written..];
        }
        Ok(())
    }

    /// All bytes of a file.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, FsError> {
        let id = self.open(path, false)?;
        let mut contents = Vec::new();
        let result = loop {
            match self.fs.read(id, contents.len() as u64, 1 << 18, &mut self.scratch) {
                Ok([]) => break Ok(()),
                Ok(more) => contents.extend_from_slice(more),
                Err(error) => break Err(error),
            }
        };
        self.close(id, result).map(|()| contents)
    }

    /// Gives a file back and passes a result on.
    pub fn close(&self, id: u64, result: Done) -> Done {
        self.fs.release(id);
        result
    }

    /// Cuts a file to size 0.
    pub fn empty(&self, path: &str) -> Done {
        let change = SetAttr { size: Some(0), ..SetAttr::default() };
        self.fs.setattr(self.id(path)?, &change).map(drop)
    }

    fn fallocate(&mut self, path: Path, mode: u32, at: u64, len: u64) -> Done {
        let id = self.open(path, true)?;
        let result = self.fs.fallocate(id, mode, (at, len), false, &mut self.scratch);
        self.close(id, result)
    }

    fn rename(&self, from: Path, to: Path, how: RenameHow) -> Done {
        let ((from, name), (to, new_name)) = (self.place(from)?, self.place(to)?);
        self.fs.rename(from, &name, to, &new_name, how)
    }

    fn rotate(&mut self) -> String {
        self.rotations += 1;
        let version = format!("rotated-{}", self.rotations);
        self.volume.keys.rotate(&version);
        version
    }

    /// As a sweep does to a file of a batch: the slot before is durable (the caller made a `syncfs`), this one will be.
    fn sweep(&mut self, path: Path) -> Done {
        let version = self.rotate();
        let root = std::fs::File::open(&self.root)?;
        let name = CString::new(path).unwrap();
        let file = open_regular(root.as_fd(), &name, true)?.unwrap();
        let successor = |region: &HeaderRegion| {
            let (_, slot) = region.current().unwrap();
            let key = slot.keys()[0].rewrapped(b"memory".to_vec(), version).unwrap();
            Some(slot.successor(vec![key], false).unwrap())
        };
        replace::<Preamble>(&file, Durability::ByCaller, &alone, successor)
            .map(drop)
            .map_err(|_| FsError::HeaderWrite)
    }

    /// The directory and the name of a path.
    fn place(&self, path: &str) -> Result<(u64, CString), FsError> {
        let (dir, name) = path.split_once('/').unwrap_or(("", path));
        let parent = if dir.is_empty() { ROOT } else { self.id(dir)? };
        Ok((parent, CString::new(name).unwrap()))
    }
}

fn me() -> Caller {
    Caller { uid: 0, gid: 0 }
}
