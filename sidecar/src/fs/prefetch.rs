//! A small file's contents, given to the kernel when it is opened: reading it needs no request then.
//!
//! Invariant: only while this open is the only one and has not been answered, and nobody else can open the file or cut it: so no write
//! can come between the look at the storage and the kernel's page, which would then hold older bytes than the file. What fails is left
//! to the read that follows.

use std::fs::File;

use envelope::PAYLOAD;

use super::buffer::Scratch;
use super::error::FsError;
use super::inode::Inode;
use super::open::opened;
use super::open_file::OpenFile;
use super::{Counters, EncryptedFs};

/// The largest file that is given to the kernel as a whole.
const MOST: u64 = 8 * PAYLOAD as u64;

impl EncryptedFs {
    /// Gives the kernel what is in the file `id`, which was just opened and whose open is not answered yet: if it is small, and the
    /// kernel has nothing of it.
    pub fn prefetch(&self, id: u64, scratch: &mut Scratch) {
        let Ok(inode) = self.inode(id) else { return };
        let small = inode.size().is_some_and(|size| size > 0 && size <= MOST);
        let Ok(open) = opened(&inode) else { return };
        if small && open.take_new_to_kernel() {
            inode.alone(|| {
                if self.give_contents(&inode, &open, scratch).is_ok_and(|given| given) {
                    Counters::add(&self.counters.prefetched, 1);
                }
            });
        }
    }

    /// Whether the kernel was given all of the file, which nobody else has open.
    fn give_contents(&self, inode: &Inode, open: &OpenFile, scratch: &mut Scratch) -> Result<bool, FsError> {
        let _pass = self.gate.enter(false)?;
        let (Some(cache), Some(key)) = (self.connection.cache(), open.key.present()) else {
            return Ok(false);
        };
        let file: &File = &open.for_reading();
        let size = self.known_size(inode, file)?;
        let Ok(range) = key.geometry.covering(0, size.clamp(1, MOST)) else { return Ok(false) };
        let found = self.read_blocks(file, &key, range, size, scratch)?;
        let len = size as usize;
        if size > MOST || found.blocks * PAYLOAD < len || found.is_between_sizes {
            return Ok(false);
        }
        Ok(cache.remember(inode.id, 0, &scratch.plain.bytes()[..len]).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::CStr;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::sync::{Arc, Mutex};

    use super::super::tests::Volume;
    use super::*;
    use crate::fs::{KernelCache, Waiting};

    /// A kernel that keeps what it is given.
    #[derive(Default)]
    struct Kernel {
        given: Mutex<Vec<(u64, Vec<u8>)>>,
    }

    impl KernelCache for Kernel {
        fn remember(&self, id: u64, offset: u64, data: &[u8]) -> io::Result<()> {
            assert_eq!(offset, 0);
            self.given.lock().unwrap().push((id, data.to_vec()));
            Ok(())
        }
        fn forget_pages(&self, _id: u64) -> io::Result<()> {
            Ok(())
        }
        fn forget_attributes(&self, _id: u64) -> io::Result<()> {
            Ok(())
        }
        fn forget_name(&self, _parent: u64, _name: &CStr) -> io::Result<()> {
            Ok(())
        }
    }

    impl Waiting for Kernel {
        fn begins(&self) {}
        fn ends(&self) {}
    }

    /// A volume with the file `f`, whose kernel knows nothing of it yet.
    fn volume(contents: &[u8]) -> (Volume, Arc<Kernel>, u64) {
        let volume = Volume::new();
        volume.write_file("f", contents);
        let kernel = Arc::new(Kernel::default());
        volume.fs.connected(Arc::clone(&kernel) as _, Arc::clone(&kernel) as _);
        let id = volume.lookup("f").unwrap().id;
        (volume, kernel, id)
    }

    fn given(volume: &Volume, kernel: &Kernel, id: u64) -> usize {
        volume.fs.prefetch(id, &mut Scratch::new());
        kernel.given.lock().unwrap().len()
    }

    #[test]
    fn a_small_file_is_given_whole_and_once() {
        for len in [1, PAYLOAD - 1, PAYLOAD, PAYLOAD + 1, MOST as usize] {
            let contents = vec![7; len];
            let (volume, kernel, id) = volume(&contents);
            volume.open(id, false);
            assert_eq!(given(&volume, &kernel, id), 1);
            assert_eq!(*kernel.given.lock().unwrap(), [(id, contents)]);
            assert_eq!(given(&volume, &kernel, id), 1, "the kernel has it");
            volume.fs.release(id);
            volume.open(id, false);
            assert_eq!(given(&volume, &kernel, id), 1, "the kernel may still have it");
        }
    }

    #[test]
    fn nothing_is_given_of_a_large_file_or_an_empty_one() {
        for len in [0, MOST as usize + 1] {
            let (volume, kernel, id) = volume(&vec![7; len]);
            volume.open(id, false);
            assert_eq!(given(&volume, &kernel, id), 0);
        }
    }

    #[test]
    fn nothing_is_given_where_somebody_else_could_write_meanwhile() {
        let (volume, kernel, id) = volume(b"contents");
        volume.open(id, false);
        volume.open(id, true);
        assert_eq!(given(&volume, &kernel, id), 0);
    }

    #[test]
    fn nothing_is_given_to_who_opens_for_writing() {
        let (volume, kernel, id) = volume(b"contents");
        volume.open(id, true);
        assert_eq!(given(&volume, &kernel, id), 0);
    }

    #[test]
    fn nothing_is_given_while_data_is_suspended() {
        let (volume, kernel, id) = volume(b"contents");
        volume.open(id, false);
        volume.fs.suspend();
        assert_eq!(given(&volume, &kernel, id), 0);
    }

    #[test]
    fn nothing_is_given_of_a_damaged_file() {
        let (volume, kernel, id) = volume(&[7; 2 * PAYLOAD]);
        let backing = File::options().write(true).open(volume.backing("f")).unwrap();
        backing.write_all_at(b"damage", 4096 + 4096 + 100).unwrap();
        volume.open(id, false);
        assert_eq!(given(&volume, &kernel, id), 0);
    }
}
