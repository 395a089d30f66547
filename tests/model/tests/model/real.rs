//! The filesystem under test over a fresh directory, and what a kernel would know of it.
//!
//! Invariant: every lookup is counted, and given back when the object is gone or the kernel "forgets"; an object that is
//! open is never forgotten.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envelope::{Geometry, Ownership, Preamble, VolumeId};
use rustix::fs::XattrFlags;
use sidecar::fs::{Caller, EncryptedFs, Entry, FileKeys, MemoryKeys, Options, Scratch};
use sidecar::sweep::region_file::{self, Durability};
use tempfile::TempDir;

use crate::reference::{NodeId, ROOT, Reference};

/// How a volume is made.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    pub ownership: Ownership,
    pub strict: bool,
    pub seal: bool,
    pub header_pages: u8,
}

/// Who asks: this process, so that nothing needs root.
pub fn me() -> Caller {
    Caller { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

pub fn is_root() -> bool {
    me().uid == 0
}

pub struct Real {
    pub dir: TempDir,
    pub keys: Arc<MemoryKeys>,
    pub options: Options,
    pub fs: Arc<EncryptedFs>,
    pub scratch: Scratch,
    known: HashMap<NodeId, (u64, u64)>,
    versions: u32,
}

impl Real {
    pub fn make(make: Make) -> Self {
        let dir = tempfile::tempdir_in(fast_place()).unwrap();
        std::fs::create_dir(dir.path().join(".cofferdam")).unwrap();
        let volume = VolumeId([9; 16]);
        let keys = Arc::new(MemoryKeys::generate(volume).unwrap());
        let options = Options {
            volume,
            geometry: Geometry::new(make.header_pages).unwrap(),
            ownership: make.ownership,
            strict: make.strict,
            seal: make.seal,
            read_only: false,
            storage_entries: vec![],
        };
        let fs = open(dir.path(), &options, &keys);
        Self { dir, keys, options, fs, scratch: Scratch::new(), known: HashMap::new(), versions: 1 }
    }

    /// The filesystem's identifier of an object, looked up along its path if it is not known.
    pub fn id(&mut self, reference: &Reference, node: NodeId) -> Result<u64, String> {
        if node == ROOT {
            return Ok(sidecar::fs::ROOT);
        }
        if let Some((id, _)) = self.known.get(&node) {
            return Ok(*id);
        }
        let names = &reference.node(node).names;
        let (parent, name) = names.first().ok_or("an object without a name was forgotten")?;
        let parent = self.id(reference, *parent)?;
        let entry = self
            .fs
            .lookup(parent, &cstr(name))
            .map_err(|error| format!("look {name} up: errno {}", error.errno()))?;
        self.learn(node, &entry)?;
        Ok(entry.id)
    }

    /// An entry came back: one lookup more.
    pub fn learn(&mut self, node: NodeId, entry: &Entry) -> Result<(), String> {
        let known = self.known.entry(node).or_insert((entry.id, 0));
        known.1 += 1;
        if known.0 == entry.id { Ok(()) } else { Err(format!("object {node} came back as another inode")) }
    }

    /// Forgets all that is gone; with `all`, all that nobody has open.
    pub fn forget(&mut self, reference: &Reference, all: bool) {
        let fs = &self.fs;
        self.known.retain(|node, (id, lookups)| {
            let stays = reference.alive(*node) && (!all || reference.node(*node).opens > 0);
            if !stays {
                fs.forget(*id, *lookups);
            }
            stays
        });
    }

    /// Another process serves the volume; the one before was killed.
    pub fn restart(&mut self) {
        self.known.clear();
        self.fs = open(self.dir.path(), &self.options, &self.keys);
    }

    /// What somebody sees who only reads the storage.
    pub fn observer(&self) -> Arc<EncryptedFs> {
        let options = Options { read_only: true, ..self.options.clone() };
        open(self.dir.path(), &options, &self.keys)
    }

    pub fn rotate(&mut self) {
        self.versions += 1;
        self.keys.rotate(&self.versions.to_string());
    }

    /// As a sweep does it: the slot of each file whose key version is old is replaced, under the header lock.
    pub fn rewrap(&self) -> Result<(), String> {
        for path in files_below(self.dir.path()) {
            let file = std::fs::File::options().read(true).write(true).open(&path).map_err(said)?;
            let meta = rustix::fs::fstat(&file).map_err(said)?;
            let object = (meta.st_dev, meta.st_ino);
            let undisturbed = |work: &mut dyn FnMut()| self.fs.undisturbed(object, work);
            region_file::replace::<Preamble>(&file, Durability::ByCaller, &undisturbed, |now| {
                self.keys.open(now).ok()?.upgrade
            })
            .map_err(said)?;
        }
        Ok(())
    }
}

fn open(root: &Path, options: &Options, keys: &Arc<MemoryKeys>) -> Arc<EncryptedFs> {
    let root = std::fs::File::open(root).unwrap();
    Arc::new(EncryptedFs::new(root.as_fd(), options.clone(), Arc::clone(keys) as _).unwrap())
}

/// Regular files, the orphans among them.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Storage in memory, if it can carry attributes and there is some; else wherever temporary files lie.
fn fast_place() -> PathBuf {
    static PLACE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PLACE
        .get_or_init(|| {
            let memory = PathBuf::from("/dev/shm");
            let usable = tempfile::NamedTempFile::new_in(&memory).is_ok_and(|file| {
                rustix::fs::setxattr(file.path(), c"user.probe", b"1", XattrFlags::empty()).is_ok()
            });
            if usable { memory } else { std::env::temp_dir() }
        })
        .clone()
}

pub fn cstr(name: &str) -> CString {
    CString::new(name).unwrap()
}

pub fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
