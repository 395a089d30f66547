//! The kernel's connection that the filesystem is served on: how the kernel is told to forget, and who is told of waits.
//!
//! Invariant: what the kernel is told goes to the connection that is served now; nothing that an earlier one knew (inodes,
//! open files, open directories) outlives it.

use std::sync::{Arc, PoisonError, RwLock};

use super::{EncryptedFs, KernelCache, Waiting};

/// The hooks of the connection that is served now.
#[derive(Default)]
pub struct Connection {
    hooks: RwLock<Option<Hooks>>,
}

struct Hooks {
    cache: Arc<dyn KernelCache>,
    waiting: Arc<dyn Waiting>,
}

impl Connection {
    /// How the kernel is told to forget; `None` before the first connection.
    pub fn cache(&self) -> Option<Arc<dyn KernelCache>> {
        self.read(|hooks| Arc::clone(&hooks.cache))
    }

    /// Who is told that a thread waits.
    pub fn waiting(&self) -> Option<Arc<dyn Waiting>> {
        self.read(|hooks| Arc::clone(&hooks.waiting))
    }

    fn read<T>(&self, pick: impl FnOnce(&Hooks) -> T) -> Option<T> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(pick)
    }
}

impl EncryptedFs {
    /// The filesystem is served on a new connection: `cache` tells its kernel to forget, `waiting` is told when a thread of
    /// it waits. No thread may serve an earlier connection any more: its kernel cannot give back what it knew.
    pub fn connected(&self, cache: Arc<dyn KernelCache>, waiting: Arc<dyn Waiting>) {
        *self.connection.hooks.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Hooks { cache, waiting });
        self.streams.clear();
        let _nothing_is_sealed = self.seals.forget_all();
        for inode in self.table.reset() {
            while inode.opened().is_some() {
                self.release_inode(&inode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::CStr;
    use std::io;
    use std::sync::Mutex;

    use super::super::tests::{Volume, errno};
    use super::*;
    use crate::fs::ROOT;

    /// A kernel that remembers what it was told.
    #[derive(Default)]
    struct Kernel {
        told: Mutex<Vec<u64>>,
    }

    impl KernelCache for Kernel {
        fn remember(&self, _id: u64, _offset: u64, _data: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn forget_pages(&self, id: u64) -> io::Result<()> {
            self.told.lock().unwrap().push(id);
            Ok(())
        }
        fn forget_attributes(&self, _id: u64) -> io::Result<()> {
            Ok(())
        }
        fn forget_name(&self, _parent: u64, _name: &CStr) -> io::Result<()> {
            Ok(())
        }
    }

    struct Nobody;

    impl Waiting for Nobody {
        fn begins(&self) {}
        fn ends(&self) {}
    }

    fn connect(volume: &Volume) -> Arc<Kernel> {
        let kernel = Arc::new(Kernel::default());
        volume.fs.connected(Arc::clone(&kernel) as _, Arc::new(Nobody));
        kernel
    }

    #[test]
    fn a_suspension_clears_the_pages_of_the_connection_that_is_served_now() {
        let volume = Volume::new();
        let first = connect(&volume);
        volume.write_file("f", b"contents");
        let second = connect(&volume);
        let id = volume.lookup("f").unwrap().id;
        volume.open(id, false);
        assert!(volume.fs.suspend().forgotten);
        assert!(first.told.lock().unwrap().is_empty());
        assert!(second.told.lock().unwrap().contains(&id));
    }

    #[test]
    fn what_an_earlier_connection_knew_is_gone_and_an_orphan_of_it_too() {
        let volume = Volume::new();
        connect(&volume);
        let (open, gone) = (volume.write_file("open", b"1"), volume.write_file("gone", b"2"));
        volume.open(open, true);
        volume.open(gone, false);
        volume.fs.unlink(ROOT, c"gone").unwrap();
        let stream = volume.fs.opendir(ROOT).unwrap();
        let orphans = volume.backing(".cofferdam/orphans");
        assert_eq!(std::fs::read_dir(&orphans).unwrap().count(), 1);
        connect(&volume);
        assert_eq!(std::fs::read_dir(&orphans).unwrap().count(), 0);
        assert_eq!(volume.fs.inodes(), 1);
        assert_eq!(errno(volume.fs.getattr(open)), libc::ESTALE);
        assert_eq!(errno(volume.fs.fsyncdir(stream)), libc::EBADF);
        assert_ne!(volume.lookup("open").unwrap().id, open, "no identifier comes twice");
        assert_eq!(volume.read_file("open").unwrap(), b"1");
    }
}
