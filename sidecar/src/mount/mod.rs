//! Mounting without the node driver: for the offline `mount` command and for tests.
//!
//! Invariant: unless a person asks for others, the mount has the same options as those that the node driver makes.

use std::ffi::CString;
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::fs::EncryptedFs;
use crate::fuse::{End, Session, Trial};

/// How long the kernel may take to say INIT.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a mount looks to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The source that tables of mounts show.
    pub source: String,
    /// The type that they show: `fuse`, or `fuse.` and a name.
    pub fstype: String,
    /// Flags of mount(2).
    pub flags: MountFlags,
    /// Largest read that the kernel asks for.
    pub max_read: Option<u32>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            source: "cofferdam".into(),
            fstype: "fuse.cofferdam".into(),
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            max_read: None,
        }
    }
}

/// A mounted and served filesystem; unmounted (lazily, if it is in use) when it is dropped, unless somebody did that: by then
/// another filesystem may be mounted there.
pub struct Mounted {
    session: Session,
    target: PathBuf,
    is_ours: bool,
}

/// Mounts `fs` on the directory `target` and serves it. Needs CAP_SYS_ADMIN.
pub fn mount(fs: Arc<EncryptedFs>, target: &Path) -> io::Result<Mounted> {
    mount_as(fs, target, &Look::default(), Trial::default())
}

/// As [`mount`], with another look, and served in another way.
pub fn mount_as(fs: Arc<EncryptedFs>, target: &Path, look: &Look, trial: Trial) -> io::Result<Mounted> {
    let device = open_and_mount_as(target, fs.options().read_only, look)?;
    match Session::try_out(device, fs, trial, PATIENCE) {
        Ok(session) => Ok(Mounted { session, target: target.to_owned(), is_ours: true }),
        Err(error) => {
            let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
            Err(error)
        }
    }
}

/// Opens `/dev/fuse` and mounts it on `target`, with INIT still to be answered.
pub fn open_and_mount(target: &Path, read_only: bool) -> io::Result<OwnedFd> {
    open_and_mount_as(target, read_only, &Look::default())
}

fn open_and_mount_as(target: &Path, read_only: bool, look: &Look) -> io::Result<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if let Some(bytes) = look.max_read {
        let _ = write!(options, ",max_read={bytes}");
    }
    let options = CString::new(options).expect("digits and words hold no NUL");
    let mut flags = look.flags;
    flags.set(MountFlags::RDONLY, read_only);
    rustix::mount::mount(
        look.source.as_str(),
        target,
        look.fstype.as_str(),
        flags,
        Some(options.as_c_str()),
    )?;
    Ok(device)
}

impl Mounted {
    /// The session behind it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Waits until somebody unmounts it.
    pub fn wait(mut self) -> End {
        let end = self.session.wait();
        self.is_ours = end != End::Unmounted;
        end
    }

    /// Unmounts it; fails with `EBUSY` if a process uses it, and goes on serving.
    pub fn unmount(&mut self) -> io::Result<End> {
        rustix::mount::unmount(&self.target, UnmountFlags::empty())?;
        self.is_ours = false;
        Ok(self.session.wait())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = self.session.wait_for(Duration::ZERO) == Some(End::Unmounted);
        if self.is_ours && !gone {
            let _ = rustix::mount::unmount(&self.target, UnmountFlags::DETACH);
        }
    }
}
