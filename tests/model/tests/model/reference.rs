//! The reference filesystem: objects in a vector, contents as plain bytes.
//!
//! Invariant: no code of the filesystem under test; each method is the shortest thing that says what POSIX and
//! `docs/semantics.md` say, and an error changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::steps::Allocation;

pub type NodeId = usize;
pub type Outcome<T> = Result<T, i32>;
pub const ROOT: NodeId = 0;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    File(Vec<u8>),
    Directory(BTreeMap<String, NodeId>),
    Symlink(String),
    Fifo,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Seconds, if it was set and nothing has changed it since.
    pub mtime: Option<i64>,
    /// Where it has names.
    pub names: BTreeSet<(NodeId, String)>,
    pub opens: u32,
}

impl Node {
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }

    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    pub fn data(&self) -> &[u8] {
        if let Kind::File(data) = &self.kind { data } else { &[] }
    }

    fn data_mut(&mut self) -> &mut Vec<u8> {
        self.mtime = None;
        match &mut self.kind {
            Kind::File(data) => data,
            other => panic!("{other:?} has no contents"),
        }
    }

    pub fn clear_privileges(&mut self) {
        self.mode &= !SET_UID;
        if self.mode & 0o010 != 0 {
            self.mode &= !SET_GID;
        }
    }
}

/// Who makes objects, and whether the kernel takes privileges of others' files away.
#[derive(Clone, Debug)]
pub struct Reference {
    pub nodes: Vec<Node>,
    pub suspended: bool,
}

impl Reference {
    pub fn new(mode: u32, uid: u32, gid: u32) -> Self {
        let root = Node { mode, uid, gid, ..blank(Kind::Directory(BTreeMap::new())) };
        Self { nodes: vec![root], suspended: false }
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// Still reachable, by a name or by a handle.
    pub fn alive(&self, id: NodeId) -> bool {
        id == ROOT || !self.nodes[id].names.is_empty() || self.nodes[id].opens > 0
    }

    /// The `number`th, modulo how many there are, of the living objects for which `wanted` holds.
    pub fn pick(&self, number: u8, wanted: impl Fn(&Node) -> bool) -> Option<NodeId> {
        let fits: Vec<_> =
            (0..self.nodes.len()).filter(|id| self.alive(*id) && wanted(&self.nodes[*id])).collect();
        (!fits.is_empty()).then(|| fits[usize::from(number) % fits.len()])
    }

    pub fn pick_dir(&self, number: u8) -> NodeId {
        self.pick(number, Node::is_dir).unwrap()
    }

    pub fn links(&self, id: NodeId) -> u32 {
        match &self.nodes[id].kind {
            Kind::Directory(entries) => {
                2 + entries.values().filter(|child| self.nodes[**child].is_dir()).count() as u32
            }
            _ => self.nodes[id].names.len() as u32,
        }
    }

    /// What is refused while keys are away.
    pub fn check_served(&self) -> Outcome<()> {
        if self.suspended { Err(libc::ENOKEY) } else { Ok(()) }
    }

    pub fn write(&mut self, id: NodeId, at: u64, bytes: &[u8], clear: bool) -> Outcome<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.check_served()?;
        if clear {
            self.nodes[id].clear_privileges();
        }
        let data = self.nodes[id].data_mut();
        let (start, end) = (at as usize, at as usize + bytes.len());
        data.resize(data.len().max(end), 0);
        data[start..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    pub fn read(&self, id: NodeId, at: u64, len: u64) -> Outcome<Vec<u8>> {
        self.check_served()?;
        let data = self.nodes[id].data();
        let start = data.len().min(at as usize);
        Ok(data[start..data.len().min(start + len as usize)].to_vec())
    }

    pub fn truncate(&mut self, id: NodeId, size: u64, clear: bool) -> Outcome<()> {
        self.check_served()?;
        self.nodes[id].data_mut().resize(size as usize, 0);
        if clear {
            self.nodes[id].clear_privileges();
        }
        Ok(())
    }

    pub fn allocate(&mut self, id: NodeId, mode: Allocation, at: u64, len: u64) -> Outcome<()> {
        if len == 0 {
            return Err(libc::EINVAL);
        }
        let grows = matches!(mode, Allocation::Grow | Allocation::Zero);
        match mode {
            Allocation::Collapse | Allocation::PunchWithoutKeep => return Err(libc::EOPNOTSUPP),
            _ => self.check_served()?,
        }
        let data = self.nodes[id].data_mut();
        let end = (at + len) as usize;
        if matches!(mode, Allocation::Punch | Allocation::Zero | Allocation::ZeroKeep) {
            let (start, end) = (data.len().min(at as usize), data.len().min(end));
            data[start..end].fill(0);
        }
        if grows {
            data.resize(data.len().max(end), 0);
        }
        Ok(())
    }

    /// A new owner takes the privileges of what is no directory away.
    pub fn chown(&mut self, id: NodeId, uid: Option<u32>, gid: Option<u32>) {
        let node = &mut self.nodes[id];
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if !node.is_dir() && (uid.is_some() || gid.is_some()) {
            node.clear_privileges();
        }
    }

    pub fn set_xattr(&mut self, id: NodeId, name: &str, value: Vec<u8>, flags: u32) -> Outcome<()> {
        if is_ours(name) {
            return Err(libc::EPERM);
        }
        let xattrs = &mut self.nodes[id].xattrs;
        match (flags as i32, xattrs.contains_key(name)) {
            (libc::XATTR_CREATE, true) => Err(libc::EEXIST),
            (libc::XATTR_REPLACE, false) => Err(libc::ENODATA),
            _ => {
                xattrs.insert(name.to_owned(), value);
                Ok(())
            }
        }
    }

    pub fn remove_xattr(&mut self, id: NodeId, name: &str) -> Outcome<()> {
        self.nodes[id].xattrs.remove(name).map(drop).ok_or(libc::ENODATA)
    }
}

pub fn blank(kind: Kind) -> Node {
    Node {
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        xattrs: BTreeMap::new(),
        mtime: None,
        names: BTreeSet::new(),
        opens: 0,
    }
}

pub fn is_ours(xattr: &str) -> bool {
    xattr.starts_with("user.cofferdam.")
}
