//! Tests of the filesystem without a mount: a directory in `/tmp`, keys in memory.

#![allow(clippy::unwrap_used, clippy::panic)]

mod attributes;
mod crash;
mod data;
mod keys;
mod namespace;
mod seal;
mod space;
mod tampering;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use envelope::{Geometry, Ownership, VolumeId};
use tempfile::TempDir;

use super::*;

/// The caller in tests: this process, so that nothing needs root.
pub fn me() -> Caller {
    Caller { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// A filesystem over a fresh directory.
pub struct Volume {
    pub dir: TempDir,
    pub keys: Arc<MemoryKeys>,
    pub options: Options,
    pub fs: Arc<EncryptedFs>,
}

/// How a test's volume is made.
#[derive(Clone, Copy)]
pub struct Make {
    pub ownership: Ownership,
    pub strict: bool,
    pub seal: bool,
    pub header_pages: u8,
}

impl Default for Make {
    fn default() -> Self {
        Self { ownership: Ownership::Native, strict: false, seal: false, header_pages: 1 }
    }
}

impl Volume {
    pub fn new() -> Self {
        Self::make(Make::default())
    }

    pub fn make(make: Make) -> Self {
        Self::make_in(make, tempfile::tempdir().unwrap())
    }

    pub fn make_in(make: Make, dir: TempDir) -> Self {
        std::fs::create_dir_all(dir.path().join(".cofferdam")).unwrap();
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
        let fs = open(&dir, &options, &keys);
        Self { dir, keys, options, fs }
    }

    /// As if the process had been killed and started again: a filesystem that knows nothing, over the same directory.
    pub fn restart(&mut self) {
        self.fs = open(&self.dir, &self.options, &self.keys);
    }

    pub fn backing(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a file in the root and leaves it open.
    pub fn create(&self, name: &str) -> Entry {
        let mode = NewMode { mode: 0o644, umask: 0o022 };
        let how = OpenHow { write: true, ..OpenHow::default() };
        self.fs.create(ROOT, &cstr(name), mode, me(), true, how).unwrap()
    }

    /// Makes a file with these contents and closes it.
    pub fn write_file(&self, name: &str, contents: &[u8]) -> u64 {
        let entry = self.create(name);
        self.fs.write_all(entry.id, 0, contents).unwrap();
        self.fs.release(entry.id);
        entry.id
    }

    pub fn lookup(&self, name: &str) -> Result<Entry, FsError> {
        self.fs.lookup(ROOT, &cstr(name))
    }

    pub fn open(&self, id: u64, write: bool) {
        self.fs.open(id, OpenHow { write, ..OpenHow::default() }).unwrap();
    }

    /// All of an open file, by its size.
    pub fn read_open(&self, id: u64) -> Result<Vec<u8>, FsError> {
        let size = self.fs.getattr(id)?.size;
        self.read_at(id, 0, size as usize)
    }

    pub fn read_at(&self, id: u64, mut offset: u64, len: usize) -> Result<Vec<u8>, FsError> {
        let mut scratch = Scratch::new();
        let mut out = Vec::new();
        while out.len() < len {
            let got = self.fs.read(id, offset, (len - out.len()).min(MAX_IO), &mut scratch)?;
            if got.is_empty() {
                break;
            }
            out.extend_from_slice(got);
            offset += got.len() as u64;
        }
        Ok(out)
    }

    /// All of a file by its name.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>, FsError> {
        let entry = self.lookup(name)?;
        self.fs.open(entry.id, OpenHow::default())?;
        let contents = self.read_open(entry.id);
        self.fs.release(entry.id);
        contents
    }

    /// The names in a directory, without the dots.
    pub fn names(&self, id: u64) -> Vec<String> {
        let handle = self.fs.opendir(id).unwrap();
        let (mut names, mut offset) = (HashMap::new(), 0);
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let before = offset;
            self.fs
                .readdir(handle, offset, &mut buffer, |entry| {
                    offset = entry.next;
                    *names.entry(entry.name.to_str().unwrap().to_owned()).or_insert(0) += 1;
                    true
                })
                .unwrap();
            if offset == before {
                break;
            }
        }
        self.fs.releasedir(handle);
        assert!(names.values().all(|count| *count == 1), "an entry came twice: {names:?}");
        let mut names: Vec<_> = names.into_keys().filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }
}

fn open(dir: &TempDir, options: &Options, keys: &Arc<MemoryKeys>) -> Arc<EncryptedFs> {
    let root = std::fs::File::open(dir.path()).unwrap();
    let fs = EncryptedFs::new(root.as_fd(), options.clone(), Arc::clone(keys) as _).unwrap();
    fs.audit_by(Arc::new(tampering::OfThisThread));
    Arc::new(fs)
}

/// A filesystem that is unmounted when it is dropped.
pub struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A volume on a filesystem of its own; `None`, loudly, where this process may not mount (a failure with `CI=true`).
pub fn mounted_volume(kind: &str, options: Option<&CStr>) -> Option<(Mount, Volume)> {
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    match rustix::mount::mount(kind, dir.path(), kind, flags, options) {
        Ok(()) => {
            let mount = Mount(dir.path().to_owned());
            Some((mount, Volume::make_in(Make::default(), dir)))
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "cannot mount a {kind}: {error}");
            eprintln!("SKIPPED: cannot mount a {kind}: {error}");
            None
        }
    }
}

pub fn cstr(name: &str) -> CString {
    CString::new(name).unwrap()
}

pub fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> i32 {
    result.unwrap_err().errno()
}

/// Bytes that tell their place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| step()).collect()
}
