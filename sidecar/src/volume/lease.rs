//! One writing sidecar for a volume: an open-file-description lock, and a record of who holds it.
//!
//! On storage that only one node can mount, the kernel's lock says all. On shared storage, where locks may not reach the
//! other node, the record counts up while its holder lives; whoever finds a record that was not released and comes from
//! another boot watches it first.
//!
//! Invariant: two processes that both hold a lease for writing have different epochs, and the older one notices.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::VolumeError;
use super::names;

/// How often a holder on shared storage counts its record up.
pub const BEAT: Duration = Duration::from_secs(5);
/// How long a record of another boot is watched: long enough to miss four beats.
const WATCH: Duration = Duration::from_secs(25);
/// The record is padded to this, so that it is replaced whole by one write.
const RECORD_LEN: usize = 512;

/// What the lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Writing: alone.
    Write,
    /// Reading: with other readers.
    Read,
}

/// The record in the lease file, JSON padded with spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Grows by one with each lease for writing.
    pub epoch: u64,
    /// Who holds or held it, for a person.
    pub holder: String,
    /// The boot id of the holder's node.
    pub boot: String,
    /// Counts up while the holder lives.
    pub beat: u64,
    /// The holder ended in order.
    pub released: bool,
}

/// A held lease; dropping it releases the lock.
#[derive(Debug)]
pub struct Lease {
    file: File,
    purpose: Purpose,
    record: Record,
}

impl Lease {
    /// Takes the lease in `dir` (our directory in the volume) for `holder`. Never waits for a lock; watches a record of
    /// another boot for up to 25 s where `shared` storage may hide a lock.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] while another one has it.
    pub fn acquire(
        dir: BorrowedFd<'_>,
        holder: &str,
        purpose: Purpose,
        shared: bool,
    ) -> Result<Self, VolumeError> {
        Self::acquire_watching(dir, holder, purpose, shared.then_some(WATCH))
    }

    fn acquire_watching(
        dir: BorrowedFd<'_>,
        holder: &str,
        purpose: Purpose,
        watch: Option<Duration>,
    ) -> Result<Self, VolumeError> {
        let own = |source: io::Error| VolumeError::Own { what: "lease", source };
        let file = open_file(dir, purpose).map_err(own)?;
        if !lock(&file, purpose).map_err(own)? {
            return Err(in_use(&read(&file)));
        }
        let before = read(&file);
        if let Some(watch) = watch
            && !before.released
            && !before.boot.is_empty()
            && before.boot != boot_id()
        {
            std::thread::sleep(watch);
            if read(&file) != before {
                return Err(in_use(&before));
            }
        }
        let mut lease = Self { file, purpose, record: before };
        if purpose == Purpose::Write {
            let epoch = lease.record.epoch.saturating_add(1);
            lease.record =
                Record { epoch, holder: holder.to_owned(), boot: boot_id(), beat: 0, released: false };
            lease.write().map_err(own)?;
        }
        Ok(lease)
    }

    /// This lease's epoch.
    pub fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// Says that the holder lives.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] if another one took the volume over meanwhile: stop writing.
    pub fn beat(&mut self) -> Result<(), VolumeError> {
        if self.purpose == Purpose::Read {
            return Ok(());
        }
        let found = read(&self.file);
        if found.epoch > self.record.epoch {
            return Err(in_use(&found));
        }
        self.record.beat += 1;
        self.write().map_err(|source| VolumeError::Own { what: "lease", source })
    }

    /// Ends in order, so that nobody has to watch.
    pub fn release(mut self) {
        if self.purpose == Purpose::Write {
            self.record.released = true;
            if let Err(error) = self.write() {
                tracing::warn!(%error, "cannot mark the lease as released; the next holder may have to watch it");
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.record)?;
        text.resize(RECORD_LEN.max(text.len()), b' ');
        self.file.write_all_at(&text, 0)?;
        self.file.sync_data()
    }
}

fn in_use(record: &Record) -> VolumeError {
    let holder = if record.holder.is_empty() { "another process" } else { record.holder.as_str() };
    VolumeError::InUse { holder: holder.to_owned() }
}

fn open_file(dir: BorrowedFd<'_>, purpose: Purpose) -> io::Result<File> {
    let common = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let opened = match openat(dir, names::LEASE, common | OFlags::RDWR | OFlags::CREATE, mode) {
        Err(Errno::ROFS | Errno::ACCESS) if purpose == Purpose::Read => {
            openat(dir, names::LEASE, common | OFlags::RDONLY, mode)
        }
        other => other,
    };
    Ok(opened?.into())
}

/// Locks the whole file; `false` if somebody else has a lock that excludes it.
fn lock(file: &File, purpose: Purpose) -> io::Result<bool> {
    let kind = match purpose {
        Purpose::Write => libc::F_WRLCK,
        Purpose::Read => libc::F_RDLCK,
    };
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range)) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A record that cannot be read says nothing, and is replaced.
fn read(file: &File) -> Record {
    let mut text = vec![0; 4 * RECORD_LEN];
    let len = file.read_at(&mut text, 0).unwrap_or(0);
    serde_json::from_slice(text[..len].trim_ascii_end()).unwrap_or_default()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dir() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::open(dir.path()).unwrap();
        (dir, file)
    }

    #[test]
    fn a_second_writer_is_refused_and_told_who_has_the_volume() {
        let (_dir, file) = dir();
        let first = Lease::acquire(file.as_fd(), "pod shop/db-0", Purpose::Write, false).unwrap();
        let error = Lease::acquire(file.as_fd(), "pod shop/db-1", Purpose::Write, false).unwrap_err();
        assert!(error.to_string().contains("pod shop/db-0"), "{error}");
        assert!(matches!(
            Lease::acquire(file.as_fd(), "pod shop/db-1", Purpose::Read, false),
            Err(VolumeError::InUse { .. })
        ));
        first.release();
        let second = Lease::acquire(file.as_fd(), "pod shop/db-1", Purpose::Write, false).unwrap();
        assert_eq!(second.epoch(), 2);
    }

    #[test]
    fn readers_share_and_keep_a_writer_out() {
        let (_dir, file) = dir();
        let _one = Lease::acquire(file.as_fd(), "a", Purpose::Read, false).unwrap();
        let _two = Lease::acquire(file.as_fd(), "b", Purpose::Read, false).unwrap();
        assert!(Lease::acquire(file.as_fd(), "c", Purpose::Write, false).is_err());
    }

    fn foreign_record(dir: &tempfile::TempDir, beat: u64) {
        let record = Record {
            epoch: 7,
            holder: "pod far/away".into(),
            boot: "another boot".into(),
            beat,
            released: false,
        };
        std::fs::write(dir.path().join(names::LEASE), serde_json::to_vec(&record).unwrap()).unwrap();
    }

    #[test]
    fn on_shared_storage_a_record_of_another_node_that_counts_up_keeps_the_volume() {
        let (dir, file) = dir();
        foreign_record(&dir, 1);
        let beating = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            foreign_record(&dir, 2);
            dir
        });
        let watch = Some(Duration::from_millis(400));
        let error = Lease::acquire_watching(file.as_fd(), "here", Purpose::Write, watch).unwrap_err();
        assert!(error.to_string().contains("pod far/away"), "{error}");
        // Its node is gone: the record stands still.
        let lease = Lease::acquire_watching(file.as_fd(), "here", Purpose::Write, watch).unwrap();
        assert_eq!(lease.epoch(), 8);
        drop(beating.join().unwrap());
    }

    #[test]
    fn a_holder_notices_that_its_volume_was_taken_over() {
        let (dir, file) = dir();
        let mut lease = Lease::acquire(file.as_fd(), "here", Purpose::Write, true).unwrap();
        lease.beat().unwrap();
        foreign_record(&dir, 1);
        assert!(matches!(lease.beat(), Err(VolumeError::InUse { .. })));
    }
}
