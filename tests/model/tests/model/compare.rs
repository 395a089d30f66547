//! The whole tree, compared.
//!
//! Invariant: nothing is left out but access and change times, and the contents of files while keys are away.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use rustix::fs::FileType;
use sidecar::fs::{Attr, EncryptedFs, Entry, MAX_IO, OpenHow, Scratch};

use crate::real::{cstr, said};
use crate::reference::{Kind, Node, NodeId, ROOT, Reference};
use crate::world::{Verdict, World};

struct Eyes<'a> {
    fs: &'a EncryptedFs,
    reference: &'a Reference,
    native: bool,
    /// Links of an empty directory on this storage are 2.
    counts_subdirectories: bool,
    scratch: &'a mut Scratch,
    /// What was looked up, for somebody to give back.
    met: Vec<(NodeId, Entry)>,
}

/// As the filesystem under test shows it, open files without a name among it.
pub fn live(world: &mut World) -> Verdict {
    let met = {
        let mut eyes = Eyes {
            fs: &world.real.fs,
            reference: &world.reference,
            native: world.native,
            counts_subdirectories: root_links(&world.real.fs) > 2,
            scratch: &mut world.real.scratch,
            met: Vec::new(),
        };
        eyes.directory(ROOT, sidecar::fs::ROOT)?;
        for handle in &world.handles {
            let attr = eyes.fs.getattr(handle.id).map_err(said)?;
            eyes.object(handle.node, handle.id, &attr).map_err(|what| format!("open file: {what}"))?;
        }
        eyes.met
    };
    met.iter().try_for_each(|(node, entry)| world.real.learn(*node, entry))
}

/// As another process finds it on the storage.
pub fn stored(world: &mut World) -> Verdict {
    let fs = world.real.observer();
    let mut eyes = Eyes {
        fs: &fs,
        reference: &world.reference,
        native: world.native,
        counts_subdirectories: root_links(&fs) > 2,
        scratch: &mut world.real.scratch,
        met: Vec::new(),
    };
    eyes.directory(ROOT, sidecar::fs::ROOT).map_err(|what| format!("on the storage: {what}"))
}

fn root_links(fs: &EncryptedFs) -> u32 {
    fs.getattr(sidecar::fs::ROOT).map_or(0, |attr| attr.nlink)
}

impl Eyes<'_> {
    fn directory(&mut self, dir: NodeId, id: u64) -> Verdict {
        let Kind::Directory(entries) = &self.reference.node(dir).kind else {
            return Err("is no directory".into());
        };
        let found = names(self.fs, id)?;
        let expected: BTreeMap<_, _> =
            entries.iter().map(|(name, node)| (name.clone(), kind(self.reference.node(*node)))).collect();
        if found != expected {
            return Err(format!("names: expected {expected:?}, found {found:?}"));
        }
        for (name, node) in entries {
            let told = |what: String| format!("{name}: {what}");
            let entry = self.fs.lookup(id, &cstr(name)).map_err(|error| told(error.to_string()))?;
            self.met.push((*node, entry));
            self.object(*node, entry.id, &entry.attr).map_err(told)?;
            if self.reference.node(*node).is_dir() {
                self.directory(*node, entry.id).map_err(told)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, node: NodeId, id: u64, attr: &Attr) -> Verdict {
        self.attributes(node, attr)?;
        let node = self.reference.node(node);
        match &node.kind {
            Kind::File(data) => self.contents(id, data)?,
            Kind::Symlink(target) => {
                let found = self.fs.readlink(id).map_err(said)?;
                equal("target", &target.as_bytes(), &&found[..])?;
            }
            Kind::Directory(_) | Kind::Fifo => {}
        }
        if node.is_file() || node.is_dir() { self.xattrs(node, id) } else { Ok(()) }
    }

    fn attributes(&self, id: NodeId, attr: &Attr) -> Verdict {
        let node = self.reference.node(id);
        equal("type", &kind(node), &FileType::from_raw_mode(attr.mode).as_raw_mode())?;
        equal("mode", &node.mode, &(attr.mode & 0o7777))?;
        // With virtual ownership what can carry no attribute belongs to its directory's owner.
        if self.native || node.is_file() || node.is_dir() {
            equal("owner", &(node.uid, node.gid), &(attr.uid, attr.gid))?;
        }
        if node.is_file() {
            equal("size", &(node.data().len() as u64), &attr.size)?;
        }
        if !node.is_dir() || self.counts_subdirectories {
            // Our own directory counts too.
            equal("links", &(self.reference.links(id) + u32::from(id == ROOT)), &attr.nlink)?;
        }
        match node.mtime {
            Some(seconds) => equal("mtime", &seconds, &attr.mtime.seconds),
            None => Ok(()),
        }
    }

    fn contents(&mut self, id: u64, expected: &[u8]) -> Verdict {
        if self.reference.suspended {
            return Ok(());
        }
        self.fs.open(id, OpenHow::default()).map_err(said)?;
        let found = self.fs.read(id, 0, MAX_IO, self.scratch).map_err(said).and_then(|found| {
            let differs = expected.iter().zip(found).position(|(a, b)| a != b);
            equal("bytes", &expected.len(), &found.len())?;
            differs.map_or(Ok(()), |place| Err(format!("contents differ at {place} of {}", found.len())))
        });
        self.fs.release(id);
        found
    }

    fn xattrs(&self, node: &Node, id: u64) -> Verdict {
        let list = self.fs.listxattr(id).map_err(said)?;
        let mut found = BTreeMap::new();
        for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = String::from_utf8_lossy(name).into_owned();
            // What security modules add is not ours to judge.
            if name.starts_with("user.") {
                let value = self.fs.getxattr(id, &cstr(&name)).map_err(said)?;
                found.insert(name, value);
            }
        }
        equal("xattrs", &node.xattrs, &found)
    }
}

/// The names in a directory and their types, by several short reads.
fn names(fs: &EncryptedFs, id: u64) -> Result<BTreeMap<String, u32>, String> {
    let handle = fs.opendir(id).map_err(said)?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let (mut found, mut offset, mut twice) = (BTreeMap::new(), 0, None);
    loop {
        let (before, mut most) = (offset, 3);
        let read = fs.readdir(handle, offset, &mut buffer, |entry| {
            most -= 1;
            offset = entry.next;
            let name = entry.name.to_string_lossy().into_owned();
            if name != "." && name != ".." && found.insert(name.clone(), entry.kind.as_raw_mode()).is_some() {
                twice = Some(name);
            }
            most > 0
        });
        read.map_err(said)?;
        if offset == before {
            break;
        }
    }
    fs.releasedir(handle);
    twice.map_or(Ok(found), |name| Err(format!("{name} came twice")))
}

fn kind(node: &Node) -> u32 {
    match node.kind {
        Kind::File(_) => libc::S_IFREG,
        Kind::Directory(_) => libc::S_IFDIR,
        Kind::Symlink(_) => libc::S_IFLNK,
        Kind::Fifo => libc::S_IFIFO,
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Verdict {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}
