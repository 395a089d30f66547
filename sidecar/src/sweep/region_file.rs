//! Header regions in files: reading one, replacing its inactive slot, and closing its seal.
//!
//! Invariant: a slot is written under the header lock, after a fresh look at the region, and only into the slot that is
//! not current. Nothing but that slot, or the seal's sector, changes; the file keeps its times, and a time that somebody else gives it meanwhile
//! is not taken back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use envelope::{HeaderError, KeySlot, PAGE, Record, Region, SEAL_LEN, SEAL_OFFSET, SlotError};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags, Timestamps, openat};
use rustix::io::Errno;
use thiserror::Error;

/// The largest header region.
const MOST: usize = 16 * PAGE;
/// How often a lock that somebody else holds is tried, 10 ms apart.
const TRIES: u32 = 200;

/// Why a region was not read or not replaced.
#[derive(Debug, Error)]
pub enum RegionError {
    /// The file.
    #[error("read or write the file")]
    Io(#[from] io::Error),
    /// The header.
    #[error("understand the header")]
    Header(#[from] HeaderError),
    /// The new slot.
    #[error("make the key slot")]
    Slot(#[from] SlotError),
    /// Somebody else is writing the header.
    #[error("lock the header")]
    Locked,
    /// What was read back is not what was written.
    #[error("read the key slot back as it was written")]
    NotAsWritten,
}

/// Opens the regular file `name`, following no symlink and waiting for no pipe. `None` if it is gone or is something else.
pub fn open_regular(dir: BorrowedFd<'_>, name: &std::ffi::CStr, write: bool) -> io::Result<Option<File>> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only a file's owner may leave its access time alone.
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        other => other,
    };
    match opened {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads a file's region; `None` if its header was never written.
pub fn read<R: Record>(file: &File) -> Result<Option<Region<R>>, RegionError> {
    let mut bytes = vec![0; PAGE];
    fill(file, &mut bytes)?;
    if let Some(need) = Region::<R>::needed_len(&bytes)?
        && need > bytes.len()
        && need <= MOST
    {
        bytes.resize(need, 0);
        fill(file, &mut bytes)?;
    }
    Ok(Region::parse(&bytes)?)
}

/// Reads from the start; shortens `bytes` where the file ends.
fn fill(file: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(())
}

/// How the two slots are known to be durable around a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The current slot is durable already, and the caller makes this write durable before it counts it.
    ByCaller,
    /// The file is synced before and after.
    Here,
}

/// Runs its argument while nobody else writes the file or sets its times. With the header lock held: whoever is waited
/// for must not wait for that.
pub type Undisturbed<'a> = &'a dyn Fn(&mut dyn FnMut());

/// Where nobody else writes the file at all.
pub fn alone(work: &mut dyn FnMut()) {
    work();
}

/// Replaces the inactive slot by what `successor` makes of the current one. `successor` sees the region as it is under
/// the lock, and says `None` if there is nothing to do any more.
pub fn replace<R: Record>(
    file: &File,
    durability: Durability,
    undisturbed: Undisturbed<'_>,
    successor: impl FnOnce(&Region<R>) -> Option<KeySlot>,
) -> Result<Option<Region<R>>, RegionError> {
    let Some(first) = read::<R>(file)? else { return Ok(None) };
    let _lock = HeaderLock::take(file, first.record().record_geometry().header_len())?;
    let Some(region) = read::<R>(file)? else { return Ok(None) };
    let Some(slot) = successor(&region) else { return Ok(None) };
    let write = region.replacement(&slot)?;
    if durability == Durability::Here {
        file.sync_data()?;
    }
    let mut written = Ok(());
    undisturbed(&mut || written = write_unnoticed(file, &write.bytes, write.offset));
    written?;
    if durability == Durability::Here {
        file.sync_data()?;
    }
    let after = region.replaced(&write, slot);
    match read::<R>(file)? {
        Some(found) if found.slots() == after.slots() => Ok(Some(after)),
        _ => Err(RegionError::NotAsWritten),
    }
}

/// Writes the sector of a file's seal, if `allowed` says so while nobody else writes the file; whether it did. What it says
/// yes with is held until the sector is written.
pub fn write_seal<T>(
    file: &File,
    header_len: u64,
    sector: &[u8; SEAL_LEN],
    undisturbed: Undisturbed<'_>,
    allowed: impl Fn() -> Option<T>,
) -> Result<bool, RegionError> {
    let _lock = HeaderLock::take(file, header_len)?;
    let mut written = Ok(false);
    undisturbed(&mut || {
        if let Some(_held) = allowed() {
            written = write_unnoticed(file, sector, SEAL_OFFSET as u64).map(|()| true);
        }
    });
    Ok(written?)
}

/// Writes a part of a header; the file keeps its times.
fn write_unnoticed(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let before = rustix::fs::fstat(file)?;
    file.write_all_at(bytes, offset)?;
    restore_times(file, &before)
}

/// A rewrap is no change of the file's contents.
fn restore_times(file: &File, before: &rustix::fs::Stat) -> io::Result<()> {
    let time = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as i64,
    };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec),
        last_modification: time(before.st_mtime, before.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// An open-file-description write lock on the header region; dropped with it.
struct HeaderLock<'a> {
    file: &'a File,
    len: i64,
}

impl<'a> HeaderLock<'a> {
    fn take(file: &'a File, len: u64) -> Result<Self, RegionError> {
        let len = len as i64;
        for _ in 0..TRIES {
            match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, len))) {
                Ok(_) => return Ok(Self { file, len }),
                Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Err(error) => return Err(RegionError::Io(error.into())),
            }
        }
        Err(RegionError::Locked)
    }
}

impl Drop for HeaderLock<'_> {
    fn drop(&mut self) {
        // The descriptor may be shared with others, so that closing it does not unlock.
        let _ = fcntl(self.file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, self.len)));
    }
}

fn range(kind: libc::c_int, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: len,
        l_pid: 0,
    }
}
