//! The edge to the kernel: mount(2), umount2(2), `/dev/fuse` and the files of fusectl (Documentation/filesystems/fuse.rst).
//!
//! Invariant: no call here waits for a FUSE server. A mounted target is never opened, never looked at, never walked through;
//! whether something is mounted is read from the mount table.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::mountinfo::{self, Mount};

/// Filesystem type of our mounts.
pub const FS_TYPE: &str = "fuse.cofferdam";
/// Mounts at one target that are taken away before giving up: each failed publish can leave one.
const LAYERS: usize = 64;

/// What the driver asks of the kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    connections: PathBuf,
}

/// A connection that was just made.
#[derive(Debug)]
pub struct Connection {
    /// The server's end.
    pub fd: OwnedFd,
    /// Its device minor.
    pub minor: u32,
}

/// The owner and size of a tmpfs.
#[derive(Clone, Copy, Debug)]
pub struct Tmpfs {
    /// Most bytes that it holds.
    pub bytes: u64,
    /// Its only user.
    pub uid: u32,
    /// That user's group.
    pub gid: u32,
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The mount table could not be read.
    #[error("read the mount table")]
    Table(#[source] io::Error),
    /// fusectl is neither mounted nor mountable.
    #[error("mount fusectl: is the fuse module loaded?")]
    Fusectl(#[source] io::Error),
    /// `/dev/fuse` could not be opened.
    #[error("open /dev/fuse: is the fuse module loaded, and is the driver privileged?")]
    Device(#[source] io::Error),
    /// The target's directory could not be made.
    #[error("make the target directory")]
    Directory(#[source] io::Error),
    /// The mount failed.
    #[error("mount at the target")]
    Mount(#[source] io::Error),
    /// The mount succeeded and is not in the table.
    #[error("find the new mount in the mount table")]
    Vanished,
    /// Unmounting failed.
    #[error("unmount the target")]
    Unmount(#[source] io::Error),
    /// The target's directory could not be removed.
    #[error("remove the target directory")]
    Remove(#[source] io::Error),
    /// The connection could not be aborted.
    #[error("abort the FUSE connection")]
    Abort(#[source] io::Error),
}

impl Kernel {
    /// `connections` is fusectl's mount point, normally `/sys/fs/fuse/connections`; fusectl is mounted there if it is not.
    pub fn new(connections: PathBuf) -> Result<Self, KernelError> {
        // Loads the module, where it is one; without it there is nothing to mount fusectl on.
        let _ = fs::File::open("/dev/fuse");
        let kernel = Self { connections };
        let mounts = kernel.mounts()?;
        if mountinfo::topmost(&mounts, &kernel.connections).is_none_or(|mount| mount.fs_type != "fusectl") {
            mount("fusectl", &kernel.connections, "fusectl", MountFlags::empty(), None)
                .map_err(|errno| KernelError::Fusectl(errno.into()))?;
        }
        Ok(kernel)
    }

    /// The mount table of this process.
    pub fn mounts(&self) -> Result<Vec<Mount>, KernelError> {
        fs::read_to_string("/proc/self/mountinfo")
            .map(|table| mountinfo::parse(&table))
            .map_err(KernelError::Table)
    }

    /// What is mounted at `target`.
    pub fn mounted(&self, target: &Path) -> Result<Option<Mount>, KernelError> {
        Ok(mountinfo::topmost(&self.mounts()?, target).cloned())
    }

    /// Mounts FUSE at `target`, on which nothing must be mounted. Returns at once: the kernel queues INIT for whoever reads
    /// the descriptor. On an error nothing stays mounted.
    pub fn mount_fuse(
        &self,
        target: &Path,
        source: &str,
        read_only: bool,
    ) -> Result<Connection, KernelError> {
        make_directory(target)?;
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let fd = device.map_err(|errno| KernelError::Device(errno.into()))?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            fd.as_raw_fd()
        );
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        flags.set(MountFlags::RDONLY, read_only);
        mount(source, target, FS_TYPE, flags, c_string(options).as_c_str())
            .map_err(|errno| KernelError::Mount(errno.into()))?;
        match self.mounted(target) {
            Ok(Some(mount)) if mount.source == source => Ok(Connection { fd, minor: mount.minor }),
            found => {
                self.unmount_all(target)?;
                found.and(Err(KernelError::Vanished))
            }
        }
    }

    /// Binds `source` read-only at `target`.
    pub fn bind_read_only(&self, source: &Path, target: &Path) -> Result<(), KernelError> {
        make_directory(target)?;
        mount_bind(source, target).map_err(|errno| KernelError::Mount(errno.into()))?;
        let flags = MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC;
        mount_remount(target, flags, "").map_err(|errno| {
            // Best effort: the error that matters is the first.
            let _ = self.unmount_all(target);
            KernelError::Mount(errno.into())
        })
    }

    /// Mounts a tmpfs that one user alone can enter.
    pub fn mount_tmpfs(&self, target: &Path, tmpfs: Tmpfs) -> Result<(), KernelError> {
        make_directory(target)?;
        let Tmpfs { bytes, uid, gid } = tmpfs;
        let options = format!("size={bytes},nr_inodes=4096,mode=0700,uid={uid},gid={gid}");
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("cofferdam", target, "tmpfs", flags, c_string(options).as_c_str())
            .map_err(|errno| KernelError::Mount(errno.into()))
    }

    /// Takes away everything that is mounted at `target`, in use or not.
    pub fn unmount_all(&self, target: &Path) -> Result<(), KernelError> {
        for _ in 0..LAYERS {
            match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                // EINVAL: not a mount point (any more). ENOENT: no such directory.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(KernelError::Unmount(errno.into())),
            }
        }
        Err(KernelError::Unmount(io::Error::other("too many mounts on top of each other")))
    }

    /// Removes the directory `target`, on which nothing is mounted; none is fine.
    pub fn remove_directory(&self, target: &Path) -> Result<(), KernelError> {
        match fs::remove_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KernelError::Remove(error)),
            _ => Ok(()),
        }
    }

    /// How many requests of a connection wait for an answer, INIT included; none if there is no such connection.
    pub fn waiting(&self, minor: u32) -> Option<u32> {
        let count = fs::read_to_string(self.connections.join(minor.to_string()).join("waiting")).ok()?;
        count.trim().parse().ok()
    }

    /// Aborts a connection: every request, waiting or to come, fails with ENOTCONN or ECONNABORTED. No such connection is fine.
    /// The caller has made sure that the number is still the one that it means.
    pub fn abort(&self, minor: u32) -> Result<(), KernelError> {
        match fs::write(self.connections.join(minor.to_string()).join("abort"), b"1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KernelError::Abort(error)),
            _ => Ok(()),
        }
    }
}

/// Whether the connection of a server's descriptor still stands. While it does, its number cannot be another's.
pub fn is_connected(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&at_once)) {
        Ok(_) => !fds[0].revents().contains(PollFlags::ERR),
        Err(_) => false,
    }
}

/// mkdir(2) of the last part alone: it says EEXIST for a mount point without entering it.
fn make_directory(target: &Path) -> Result<(), KernelError> {
    match fs::DirBuilder::new().mode(0o700).create(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(KernelError::Directory(error)),
        _ => Ok(()),
    }
}

fn c_string(options: String) -> CString {
    CString::new(options).expect("numbers and words have no NUL")
}
