//! The objects that the kernel knows. Invariant: an object has one node, and an identifier is used once.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::io::Errno;
use sidecar::fs::{FsError, ROOT};

/// An object.
pub struct Node {
    /// A reference to it (`O_PATH`).
    pub fd: OwnedFd,
    /// The file, while it is open: how many handles there are, and whether it may be written.
    pub open: Mutex<Open>,
}

/// The open file of a node.
#[derive(Default)]
pub struct Open {
    pub handles: u32,
    pub file: Option<Arc<File>>,
    pub writable: bool,
}

/// A node, its object (device and number), and how many lookups the kernel has of it.
type Known = (Arc<Node>, (u64, u64), u64);

#[derive(Default)]
struct Maps {
    by_id: HashMap<u64, Known>,
    by_object: HashMap<(u64, u64), u64>,
    next: u64,
}

/// All nodes.
pub struct Table {
    maps: RwLock<Maps>,
}

impl Table {
    pub fn new(root: OwnedFd) -> Self {
        let mut maps = Maps { next: ROOT + 1, ..Maps::default() };
        let node = Node { fd: root, open: Mutex::default() };
        maps.by_id.insert(ROOT, (Arc::new(node), (0, 0), 1));
        Self { maps: RwLock::new(maps) }
    }

    pub fn get(&self, id: u64) -> Result<Arc<Node>, FsError> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.by_id.get(&id).map(|(node, ..)| Arc::clone(node)).ok_or(FsError::Refused(Errno::STALE))
    }

    /// Counts a lookup of the object that `fd` refers to.
    pub fn found(&self, object: (u64, u64), fd: OwnedFd) -> u64 {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = maps.by_object.get(&object).copied()
            && let Some((_, _, lookups)) = maps.by_id.get_mut(&id)
        {
            *lookups += 1;
            return id;
        }
        let id = maps.next;
        maps.next += 1;
        maps.by_object.insert(object, id);
        maps.by_id.insert(id, (Arc::new(Node { fd, open: Mutex::default() }), object, 1));
        id
    }

    pub fn forget(&self, id: u64, count: u64) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let Some((_, object, lookups)) = maps.by_id.get_mut(&id) else { return };
        *lookups = lookups.saturating_sub(count);
        if *lookups == 0 && id != ROOT {
            let object = *object;
            maps.by_id.remove(&id);
            maps.by_object.remove(&object);
        }
    }
}
