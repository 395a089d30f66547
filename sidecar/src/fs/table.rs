//! The inodes that the kernel knows, by identifier and by object.
//!
//! Invariant: an identifier is never used for two objects; an object has at most one inode at a time; an inode stays until the
//! kernel forgot each of its lookups, and as long as something below it is known.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::anchor::{Anchor, Anchors};
use super::error::FsError;
use super::inode::{Identity, Inode};
use super::types::ROOT;

struct Known {
    inode: Arc<Inode>,
    lookups: u64,
}

#[derive(Default)]
struct Maps {
    by_id: HashMap<u64, Known>,
    by_object: HashMap<Identity, u64>,
    /// Forgotten, but something still needs them.
    lingering: Vec<u64>,
    next: u64,
}

/// See the module.
pub struct Table {
    maps: RwLock<Maps>,
    anchors: Anchors,
}

impl Table {
    /// A table with the root, which is never forgotten, and at most `descriptors` descriptors.
    pub fn new(root: Anchor, identity: Identity, descriptors: usize) -> Self {
        let root = Inode::new(ROOT, identity, FileType::Directory, Some(root), None);
        let mut maps = Maps { next: ROOT + 1, ..Maps::default() };
        maps.by_object.insert(identity, ROOT);
        maps.by_id.insert(ROOT, Known { inode: Arc::new(root), lookups: 1 });
        Self { maps: RwLock::new(maps), anchors: Anchors::new(descriptors) }
    }

    /// The descriptors' cache.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// The inode with this identifier.
    pub fn get(&self, id: u64) -> Result<Arc<Inode>, FsError> {
        let maps = self.read();
        maps.by_id.get(&id).map(|known| Arc::clone(&known.inode)).ok_or(FsError::Refused(Errno::STALE))
    }

    /// The inode of an object, if it is known.
    pub fn find(&self, identity: Identity) -> Option<Arc<Inode>> {
        let maps = self.read();
        let id = maps.by_object.get(&identity)?;
        maps.by_id.get(id).map(|known| Arc::clone(&known.inode))
    }

    /// The inode of the object that `fd` stands for, which was found as `name` in `parent`; counts a lookup.
    pub fn looked_up(
        &self,
        identity: Identity,
        kind: FileType,
        fd: Anchor,
        parent: &Arc<Inode>,
        name: &CStr,
    ) -> Arc<Inode> {
        let mut maps = self.write();
        let known = maps.by_object.get(&identity).copied();
        if let Some(known) = known.and_then(|id| maps.by_id.get_mut(&id))
            && known.inode.kind == kind
        {
            known.lookups += 1;
            let inode = Arc::clone(&known.inode);
            drop(maps);
            inode.found_as(parent, name);
            inode.offer_fd(fd, &self.anchors);
            return inode;
        }
        let id = maps.next;
        maps.next += 1;
        let name = Some((Arc::clone(parent), name.to_owned()));
        let inode = Arc::new(Inode::new(id, identity, kind, None, name));
        maps.by_object.insert(identity, id);
        maps.by_id.insert(id, Known { inode: Arc::clone(&inode), lookups: 1 });
        drop(maps);
        inode.offer_fd(fd, &self.anchors);
        inode
    }

    /// The kernel forgets `count` lookups.
    pub fn forget(&self, id: u64, count: u64) {
        if id == ROOT {
            return;
        }
        let mut maps = self.write();
        let Some(known) = maps.by_id.get_mut(&id) else { return };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 && !maps.remove(id) {
            maps.lingering.push(id);
        }
        maps.sweep();
    }

    /// Keeps an inode known, as one more lookup would, until [`Self::forget`] gives that back; whether it is known.
    pub fn hold(&self, id: u64) -> bool {
        let mut maps = self.write();
        let known = maps.by_id.get_mut(&id);
        known.map(|known| known.lookups += 1).is_some()
    }

    /// The object is deleted: its number may come back as another object.
    pub fn object_gone(&self, inode: &Inode) {
        let mut maps = self.write();
        if maps.by_object.get(&inode.identity) == Some(&inode.id) {
            maps.by_object.remove(&inode.identity);
        }
    }

    /// Forgets all but the root, as if the kernel had given each of them back; what was known.
    pub fn reset(&self) -> Vec<Arc<Inode>> {
        let mut maps = self.write();
        maps.by_object.retain(|_, id| *id == ROOT);
        maps.lingering.clear();
        let gone: Vec<_> = maps.by_id.extract_if(|id, _| *id != ROOT).map(|(_, known)| known.inode).collect();
        gone
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// All inodes for which `wanted` holds.
    pub fn select(&self, wanted: impl Fn(&Inode) -> bool) -> Vec<Arc<Inode>> {
        let maps = self.read();
        let inodes = maps.by_id.values().map(|known| &known.inode);
        inodes.filter(|inode| wanted(inode)).map(Arc::clone).collect()
    }

    /// Up to `most` of what `pick` finds.
    pub fn collect<T>(&self, most: usize, pick: impl Fn(&Inode) -> Option<T>) -> Vec<T> {
        let maps = self.read();
        maps.by_id.values().filter_map(|known| pick(&known.inode)).take(most).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    /// Removes a forgotten inode that nobody else holds. References are only added from the table, under its lock, or by
    /// somebody who holds one already.
    fn remove(&mut self, id: u64) -> bool {
        let Some(known) = self.by_id.get(&id) else { return true };
        if known.lookups > 0 {
            return true;
        }
        if Arc::strong_count(&known.inode) > 1 {
            return false;
        }
        let identity = known.inode.identity;
        self.by_id.remove(&id);
        if self.by_object.get(&identity) == Some(&id) {
            self.by_object.remove(&identity);
        }
        true
    }

    /// Tries the lingering ones again; a removed child may have freed its parent, so until nothing changes.
    fn sweep(&mut self) {
        loop {
            let mut lingering = std::mem::take(&mut self.lingering);
            let before = lingering.len();
            lingering.retain(|id| !self.remove(*id));
            let after = lingering.len();
            self.lingering = lingering;
            if after == before || after == 0 {
                return;
            }
        }
    }
}
