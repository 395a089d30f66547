//! A raw volume before it is opened: its root directory and what lies in it.
//!
//! Invariant: looking changes nothing. No symlink is followed, so that nobody who can write the storage sends us
//! elsewhere.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use contract::names::STORAGE_ENTRIES;
use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use super::backing::Backing;
use super::error::VolumeError;
use super::names;

/// A volume's root directory.
#[derive(Debug)]
pub struct RawVolume {
    root: OwnedFd,
    backing: Backing,
}

/// What a volume's root holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A marker.
    Marker,
    /// Nothing, or what a crash left of an initialisation.
    Empty,
}

impl RawVolume {
    /// Opens the directory at `path`, which the container runtime mounted.
    pub fn open(path: &Path) -> Result<Self, VolumeError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| VolumeError::Read(error.into()))?;
        let backing = Backing::of(&root).map_err(VolumeError::Read)?;
        Ok(Self { root, backing })
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What the storage can be trusted with.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Whether this process may create entries in the root.
    pub fn check_writable(&self) -> Result<(), VolumeError> {
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::accessat(&self.root, ".", access, AtFlags::EACCESS) {
            Ok(()) => Ok(()),
            Err(Errno::ROFS) => Err(VolumeError::ReadOnly),
            Err(Errno::ACCESS | Errno::PERM) => Err(self.not_writable()),
            Err(error) => Err(VolumeError::Read(error.into())),
        }
    }

    fn not_writable(&self) -> VolumeError {
        let stat = match rustix::fs::fstat(&self.root) {
            Ok(stat) => stat,
            Err(error) => return VolumeError::Read(error.into()),
        };
        let groups = rustix::process::getgroups().unwrap_or_default();
        VolumeError::NotWritable {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            own_uid: rustix::process::geteuid().as_raw(),
            own_gid: rustix::process::getegid().as_raw(),
            groups: groups.into_iter().map(rustix::fs::Gid::as_raw).collect(),
        }
    }

    /// Looks whether the volume is ours, new, or somebody's plaintext. `storage_entries` are names in the root that
    /// belong to the storage itself.
    pub fn survey(&self, storage_entries: &[String]) -> Result<Contents, VolumeError> {
        let own = match open_dir(self.root(), names::DIR) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT) => None,
            // A file or a symlink of our name is none of ours.
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(plaintext(1)),
            Err(error) => return Err(VolumeError::Read(error.into())),
        };
        let marker = own.as_ref().map(|dir| exists(dir.as_fd(), names::MARKER)).transpose();
        if marker.map_err(VolumeError::Read)?.unwrap_or(false) {
            return Ok(Contents::Marker);
        }
        let foreign = self.foreign_entries(storage_entries).map_err(VolumeError::Read)?;
        let started = own.as_ref().map(|dir| holds_more_than_a_start(dir.as_fd())).transpose();
        if started.map_err(VolumeError::Read)?.unwrap_or(false) {
            return Err(VolumeError::MarkerMissing);
        }
        if foreign > 0 { Err(plaintext(foreign)) } else { Ok(Contents::Empty) }
    }

    fn foreign_entries(&self, storage_entries: &[String]) -> io::Result<usize> {
        let ours = |name: &[u8]| {
            name == names::DIR.as_bytes()
                || STORAGE_ENTRIES.iter().any(|entry| entry.as_bytes() == name)
                || storage_entries.iter().any(|entry| entry.as_bytes() == name)
        };
        let mut foreign = 0;
        for entry in entries(self.root())? {
            let (name, _) = entry?;
            foreign += usize::from(!ours(name.to_bytes()));
        }
        Ok(foreign)
    }
}

fn plaintext(count: usize) -> VolumeError {
    let entries = if count == 1 { "an entry".to_owned() } else { format!("{count} entries") };
    VolumeError::Plaintext { entries }
}

/// Whether our directory holds what only an initialised volume has.
fn holds_more_than_a_start(dir: BorrowedFd<'_>) -> io::Result<bool> {
    for name in [names::GROUPS, names::ORPHANS] {
        match open_dir(dir, name) {
            Ok(dir) => {
                if entries(dir)?.next().is_some() {
                    return Ok(true);
                }
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Opens a directory for reading, following no symlink.
pub fn open_dir(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Opens the regular file `name` with what else `flags` says, following no symlink and waiting for no pipe: whoever holds the
/// storage can put anything under a name of ours. What is no regular file is [`Errno::NXIO`], as a pipe without a reader is.
pub fn open_file(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
    flags: OFlags,
    mode: Mode,
) -> Result<std::fs::File, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(dir, name, flags, mode)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind == FileType::RegularFile { Ok(file.into()) } else { Err(Errno::NXIO) }
}

/// Like [`open_file`], for reading, by a path that a person gave.
pub fn open_path(path: &Path) -> io::Result<std::fs::File> {
    Ok(open_file(rustix::fs::CWD, path, OFlags::RDONLY, Mode::empty())?)
}

/// Whether `name` is there, as anything.
pub fn exists(dir: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The names and types in a directory, without `.` and `..`.
pub fn entries(
    dir: impl AsFd,
) -> io::Result<impl Iterator<Item = io::Result<(std::ffi::CString, FileType)>>> {
    let dot = |name: &CStr| matches!(name.to_bytes(), b"." | b"..");
    let dir = Dir::read_from(dir)?;
    Ok(dir.filter_map(move |entry| match entry {
        Ok(entry) if dot(entry.file_name()) => None,
        Ok(entry) => Some(Ok((entry.file_name().to_owned(), entry.file_type()))),
        Err(error) => Some(Err(error.into())),
    }))
}
