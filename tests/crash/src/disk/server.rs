//! The storage's FUSE server: one thread, direct I/O, so that each system call of the filesystem under test arrives as it was
//! made.
//!
//! Invariant: the mount lives in a mount namespace of the thread that made it. Whatever ends the process ends the mount.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use fuse_backend_rs::abi::fuse_abi::OutHeader;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use vm_memory::ByteValued;

use super::answers::answer;
use super::image::{Change, Image};
use super::request::Request;
use super::store::{Injection, Recording, Store};

/// The largest write.
pub const MAX_IO: usize = 1 << 20;

/// A mounted storage.
pub struct Mount {
    store: Arc<Mutex<Store>>,
    dir: PathBuf,
    server: Option<JoinHandle<()>>,
}

/// What one thread works on: a storage that records, and a directory in memory for states.
pub struct Bench {
    /// The storage that records.
    pub mount: Mount,
    /// A directory in memory.
    pub states: PathBuf,
    // Last, so that it is removed after the mounts.
    _dirs: tempfile::TempDir,
}

impl Bench {
    /// Mounts both in a mount namespace of this thread's own; `None`, loudly, where that is not possible.
    pub fn new() -> Option<Self> {
        let able = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
        if !able {
            assert!(std::env::var_os("CI").is_none(), "CI must run the tests that need root and /dev/fuse");
            eprintln!("SKIPPED: no root, or no /dev/fuse");
            return None;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", private).unwrap();
        let dirs = tempfile::tempdir().unwrap();
        let [storage, states] = ["storage", "states"].map(|name| dirs.path().join(name));
        std::fs::create_dir(&storage).unwrap();
        std::fs::create_dir(&states).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("states", &states, "tmpfs", flags, None).unwrap();
        Some(Self { mount: Mount::new(&storage), states, _dirs: dirs })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.states, UnmountFlags::DETACH);
    }
}

impl Mount {
    fn new(dir: &Path) -> Self {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("crash", dir, "fuse.crash", flags, Some(options.as_c_str())).unwrap();
        let store = Arc::new(Mutex::new(Store::default()));
        let shared = Arc::clone(&store);
        let server =
            std::thread::Builder::new().name("storage".into()).spawn(move || serve(&device, &shared));
        Self { store, dir: dir.to_owned(), server: Some(server.unwrap()) }
    }

    /// A new volume that holds `base`; its number and its directory.
    pub fn add(&self, base: Image) -> (u64, PathBuf) {
        let volume = self.lock().add(base);
        (volume, self.dir.join(volume.to_string()))
    }

    /// Takes a volume away, with what was recorded.
    pub fn remove(&self, volume: u64) -> Recording {
        self.lock().remove(volume).unwrap()
    }

    /// How many operations a volume has seen.
    pub fn operations(&self, volume: u64) -> usize {
        self.lock().volume(volume).unwrap().log.len()
    }

    /// The volume as it is.
    pub fn image(&self, volume: u64) -> Image {
        self.lock().volume(volume).unwrap().image.clone()
    }

    /// A `syncfs` was made. The kernel does not tell a FUSE server of it.
    pub fn synced_all(&self, volume: u64) {
        self.lock().volume(volume).unwrap().commit(Change::SyncAll).unwrap();
    }

    /// What is to fail next; `None`: nothing. What was to fail and has not yet.
    pub fn inject(&self, volume: u64, injection: Option<Injection>) -> Option<Injection> {
        let mut store = self.lock();
        let volume = store.volume(volume).unwrap();
        volume.full = false;
        std::mem::replace(&mut volume.injection, injection)
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.dir, UnmountFlags::DETACH);
        // With a descriptor of the mount still open somewhere (a failed test) the server would never end.
        if !std::thread::panicking() {
            self.server.take().map(JoinHandle::join);
        }
    }
}

fn serve(device: &OwnedFd, store: &Mutex<Store>) {
    let mut buffer = vec![0; MAX_IO + 8192];
    loop {
        let len = match rustix::io::read(device, &mut buffer[..]) {
            Ok(len) => len,
            Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => continue,
            Err(_) => return,
        };
        let Ok(mut request) = Request::parse(&buffer[..len]) else { continue };
        let unique = request.header.unique;
        let answer = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            answer(&mut store, &mut request)
        };
        let Some(answer) = answer else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error(), Vec::new()),
        };
        let header = OutHeader { len: (size_of::<OutHeader>() + body.len()) as u32, error, unique };
        let reply = [header.as_slice(), &body].concat();
        // One that was withdrawn is no error.
        let _ = rustix::io::write(device, &reply);
    }
}
