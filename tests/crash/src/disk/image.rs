//! A storage as it is at one moment: inodes and names, and how a change makes the next one.
//!
//! Invariant: an inode's number is never used for another one; an inode without a name stays, because somebody may have it
//! open.

use std::collections::BTreeMap;

use super::data::{Data, parts};

/// The number of an inode.
pub type Ino = u64;

/// The root directory.
pub const ROOT: Ino = 1;

/// Mode, owner, extended attributes and times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attrs {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Access and modification.
    pub times: [(u64, u32); 2],
}

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Body {
    /// A regular file.
    File(Data),
    /// A directory.
    Dir(BTreeMap<Vec<u8>, Ino>),
    /// A symbolic link.
    Link(Vec<u8>),
}

/// An inode.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub body: Body,
    /// Its attributes.
    pub attrs: Attrs,
    /// Names.
    pub links: u32,
}

/// A name in a directory.
pub type Place = (Ino, Vec<u8>);

/// One operation that changed a storage, or made it durable.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new inode with its first name.
    Create { at: Place, ino: Ino, body: Body, attrs: Attrs },
    /// Another name.
    Link { at: Place, ino: Ino },
    /// A name goes.
    Remove { at: Place },
    /// A name goes elsewhere; what is there is replaced, or comes back here.
    Rename { from: Place, to: Place, exchange: bool },
    /// Bytes are written.
    Write { ino: Ino, offset: u64, bytes: Vec<u8> },
    /// Cut, or made longer.
    SetLen { ino: Ino, len: u64 },
    /// Pages become a hole.
    Punch { ino: Ino, start: u64, end: u64 },
    /// Space is taken; nothing that can be read changes.
    Allocate { ino: Ino },
    /// Attributes change; all as they are afterwards.
    Attrs { ino: Ino, attrs: Attrs },
    /// `fsync` or `fdatasync` of a file.
    Sync { ino: Ino, data_only: bool },
    /// `fsync` of a directory.
    SyncNames { ino: Ino },
    /// `syncfs`.
    SyncAll,
}

impl Change {
    /// Whether it is about names.
    pub fn is_of_names(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Link { .. } | Self::Remove { .. } | Self::Rename { .. })
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Image {
    /// All inodes.
    pub nodes: BTreeMap<Ino, Node>,
}

impl Image {
    /// An empty root directory.
    pub fn new() -> Self {
        let attrs = Attrs { mode: 0o40755, ..Attrs::default() };
        let root = Node { body: Body::Dir(BTreeMap::new()), attrs, links: 2 };
        Self { nodes: BTreeMap::from([(ROOT, root)]) }
    }

    /// A number that no inode has.
    pub fn next_ino(&self) -> Ino {
        self.nodes.last_key_value().map_or(ROOT, |(ino, _)| *ino) + 1
    }

    /// The entries of a directory.
    pub fn entries(&self, dir: Ino) -> Option<&BTreeMap<Vec<u8>, Ino>> {
        match &self.nodes.get(&dir)?.body {
            Body::Dir(entries) => Some(entries),
            Body::File(_) | Body::Link(_) => None,
        }
    }

    /// The inode behind a name.
    pub fn find(&self, (dir, name): &Place) -> Option<Ino> {
        self.entries(*dir)?.get(name).copied()
    }

    /// The bytes of a regular file.
    pub fn data(&self, ino: Ino) -> Option<&Data> {
        match &self.nodes.get(&ino)?.body {
            Body::File(data) => Some(data),
            Body::Dir(_) | Body::Link(_) => None,
        }
    }

    /// Makes the change, which must be possible.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { at, ino, body, attrs } => {
                let node = Node { body: body.clone(), attrs: attrs.clone(), links: 0 };
                self.nodes.insert(*ino, node);
                self.put(at, *ino);
            }
            Change::Link { at, ino } => self.put(at, *ino),
            Change::Remove { at } => drop(self.take(at)),
            Change::Rename { from, to, exchange } => self.rename(from, to, *exchange),
            Change::Write { ino, offset, bytes } => {
                let data = self.data_mut(*ino);
                for part in parts(*offset, bytes) {
                    data.write(part);
                }
            }
            Change::SetLen { ino, len } => self.data_mut(*ino).set_len(*len),
            Change::Punch { ino, start, end } => self.data_mut(*ino).punch(*start, *end),
            Change::Attrs { ino, attrs } => self.node_mut(*ino).attrs = attrs.clone(),
            Change::Allocate { .. } | Change::Sync { .. } | Change::SyncNames { .. } | Change::SyncAll => {}
        }
    }

    fn rename(&mut self, from: &Place, to: &Place, exchange: bool) {
        let moved = self.take(from);
        let there = self.find(to).map(|_| self.take(to));
        self.put(to, moved);
        if let Some(other) = there.filter(|_| exchange) {
            self.put(from, other);
        }
    }

    fn put(&mut self, (dir, name): &Place, ino: Ino) {
        self.entries_mut(*dir).insert(name.clone(), ino);
        self.node_mut(ino).links += 1;
    }

    fn take(&mut self, (dir, name): &Place) -> Ino {
        let ino = self.entries_mut(*dir).remove(name).expect("the name was looked up");
        self.node_mut(ino).links -= 1;
        ino
    }

    fn node_mut(&mut self, ino: Ino) -> &mut Node {
        self.nodes.get_mut(&ino).expect("inodes stay")
    }

    fn data_mut(&mut self, ino: Ino) -> &mut Data {
        match &mut self.node_mut(ino).body {
            Body::File(data) => data,
            Body::Dir(_) | Body::Link(_) => panic!("inode {ino} is no file"),
        }
    }

    fn entries_mut(&mut self, ino: Ino) -> &mut BTreeMap<Vec<u8>, Ino> {
        match &mut self.node_mut(ino).body {
            Body::Dir(entries) => entries,
            Body::File(_) | Body::Link(_) => panic!("inode {ino} is no directory"),
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}
