//! One writing sidecar for a volume: an open-file-description lock, and a record of who holds it.
//!
//! On storage that only one node can mount, the kernel's lock says all. On shared storage, where locks may not reach the
//! other node, the record counts up while its holder lives; whoever finds a record that was not released and comes from
//! another boot watches it first.
//!
//! Invariant: two processes that both hold a lease for writing have different records, and the one whose record is no
//! longer there notices, and never writes over the other's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::VolumeError;
use super::names;
use super::raw::open_file;

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
    /// The storage may hide this lock from another node.
    shared: bool,
    record: Mutex<Record>,
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

    /// Counts the record up as long as the lease is held, where the storage is shared. Ready when the lease is released or
    /// dropped, or with [`VolumeError::InUse`] when another one has taken the volume over: stop writing.
    pub fn keep(lease: &Arc<Self>) -> impl Future<Output = Result<(), VolumeError>> + Send + use<> {
        // Not held meanwhile: whoever drops the lease gives the lock back.
        keep_every(Arc::downgrade(lease), BEAT)
    }

    fn acquire_watching(
        dir: BorrowedFd<'_>,
        holder: &str,
        purpose: Purpose,
        watch: Option<Duration>,
    ) -> Result<Self, VolumeError> {
        let own = |source: io::Error| VolumeError::Own { what: "lease", source };
        let file = open_lease(dir, purpose).map_err(own)?;
        if !lock(&file, purpose).map_err(own)? {
            return Err(in_use(&read(&file).map_err(own)?));
        }
        let before = read(&file).map_err(own)?;
        if let Some(watch) = watch
            && !before.released
            && !before.boot.is_empty()
            && before.boot != boot_id()
        {
            std::thread::sleep(watch);
            if read(&file).map_err(own)? != before {
                return Err(in_use(&before));
            }
        }
        let mut record = before;
        if purpose == Purpose::Write {
            let epoch = record.epoch.saturating_add(1);
            record = Record { epoch, holder: holder.to_owned(), boot: boot_id(), beat: 0, released: false };
            write(&file, &record).map_err(own)?;
        }
        Ok(Self { file, purpose, shared: watch.is_some(), record: Mutex::new(record) })
    }

    /// This lease's epoch.
    pub fn epoch(&self) -> u64 {
        self.record().epoch
    }

    /// Says that the holder lives.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] if another one took the volume over meanwhile: stop writing.
    pub fn beat(&self) -> Result<(), VolumeError> {
        if self.purpose == Purpose::Read {
            return Ok(());
        }
        let mut record = self.record();
        if record.released {
            return Ok(());
        }
        let own = |source: io::Error| VolumeError::Own { what: "lease", source };
        let found = read(&self.file).map_err(own)?;
        if found.succeeds(&record) {
            return Err(in_use(&found));
        }
        record.beat += 1;
        write(&self.file, &record).map_err(own)
    }

    /// Ends in order, so that nobody has to watch: the next one may have the volume at once. Writes nothing where another
    /// one has it already.
    pub fn release(&self) {
        if self.purpose == Purpose::Write {
            let mut record = self.record();
            record.released = true;
            let released = read(&self.file)
                .and_then(|found| if found.is_of(&record) { write(&self.file, &record) } else { Ok(()) });
            if let Err(error) = released {
                tracing::warn!(%error, "cannot mark the lease as released; the next holder may have to watch it");
            }
        }
        // A beat that is under way may have the file open a little longer.
        if let Err(error) = set_lock(&self.file, libc::F_UNLCK) {
            tracing::warn!(%error, "cannot unlock the lease before this process ends");
        }
    }

    fn must_beat(&self) -> bool {
        self.shared && self.purpose == Purpose::Write && !self.record().released
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_every(held: Weak<Lease>, pause: Duration) -> Result<(), VolumeError> {
    loop {
        let Some(lease) = held.upgrade().filter(|lease| lease.must_beat()) else { return Ok(()) };
        match tokio::task::spawn_blocking(move || lease.beat()).await {
            Ok(Err(error @ VolumeError::InUse { .. })) => return Err(error),
            Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
            Ok(Ok(())) => {}
            Err(_) => tracing::error!("a renewal of the lease was cut short"),
        }
        tokio::time::sleep(pause).await;
    }
}

impl Record {
    /// Whether it is of the same lease as `other`.
    fn is_of(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.holder == other.holder && self.boot == other.boot
    }

    /// Whether it is of another lease that was taken after `own` was. One that says nothing is none.
    fn succeeds(&self, own: &Self) -> bool {
        self.epoch > own.epoch || (self.epoch == own.epoch && !self.is_of(own))
    }
}

fn write(file: &File, record: &Record) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.resize(RECORD_LEN.max(text.len()), b' ');
    file.write_all_at(&text, 0)?;
    file.sync_data()
}

fn in_use(record: &Record) -> VolumeError {
    let holder = if record.holder.is_empty() { "another process" } else { record.holder.as_str() };
    VolumeError::InUse { holder: holder.to_owned() }
}

fn open_lease(dir: BorrowedFd<'_>, purpose: Purpose) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let opened = match open_file(dir, names::LEASE, OFlags::RDWR | OFlags::CREATE, mode) {
        Err(Errno::ROFS | Errno::ACCESS) if purpose == Purpose::Read => {
            open_file(dir, names::LEASE, OFlags::RDONLY, mode)
        }
        other => other,
    };
    Ok(opened?)
}

/// Locks the whole file; `false` if somebody else has a lock that excludes it.
fn lock(file: &File, purpose: Purpose) -> io::Result<bool> {
    let kind = match purpose {
        Purpose::Write => libc::F_WRLCK,
        Purpose::Read => libc::F_RDLCK,
    };
    match set_lock(file, kind) {
        Ok(()) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn set_lock(file: &File, kind: libc::c_int) -> nix::Result<()> {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range)).map(drop)
}

/// A record that cannot be understood says nothing, and is replaced. One that the storage does not give is an error: it may
/// say anything.
fn read(file: &File) -> io::Result<Record> {
    let mut text = vec![0; 4 * RECORD_LEN];
    let len = file.read_at(&mut text, 0)?;
    Ok(serde_json::from_slice(text[..len].trim_ascii_end()).unwrap_or_default())
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
        let lease = Lease::acquire(file.as_fd(), "here", Purpose::Write, true).unwrap();
        lease.beat().unwrap();
        foreign_record(&dir, 1);
        assert!(matches!(lease.beat(), Err(VolumeError::InUse { .. })));
        // Nor does its end give the other's lease away.
        lease.release();
        let found = read(&File::open(dir.path().join(names::LEASE)).unwrap()).unwrap();
        assert_eq!((found.epoch, found.released), (7, false));
    }

    #[test]
    fn of_two_that_took_the_same_epoch_at_once_only_one_goes_on() {
        let (dir, file) = dir();
        let lease = Lease::acquire(file.as_fd(), "here", Purpose::Write, true).unwrap();
        let theirs = Record { holder: "there".into(), ..lease.record().clone() };
        std::fs::write(dir.path().join(names::LEASE), serde_json::to_vec(&theirs).unwrap()).unwrap();
        assert!(matches!(lease.beat(), Err(VolumeError::InUse { .. })));
    }

    #[test]
    fn a_record_that_the_storage_does_not_give_is_an_error_and_nobody_elses() {
        let (dir, _) = dir();
        // Reading a directory fails.
        assert!(read(&File::open(dir.path()).unwrap()).is_err());
        let path = dir.path().join("damaged");
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(read(&File::open(path).unwrap()).unwrap(), Record::default());
    }

    #[tokio::test]
    async fn a_kept_lease_counts_up_until_it_is_released_and_tells_who_took_it() {
        let (dir, file) = dir();
        let pause = Duration::from_millis(20);
        let lease = Arc::new(Lease::acquire(file.as_fd(), "here", Purpose::Write, true).unwrap());
        let kept = tokio::spawn(keep_every(Arc::downgrade(&lease), pause));
        tokio::time::sleep(pause * 10).await;
        let found = read(&File::open(dir.path().join(names::LEASE)).unwrap()).unwrap();
        assert!(found.beat >= 2, "{found:?}");
        lease.release();
        kept.await.unwrap().unwrap();

        let second = Arc::new(Lease::acquire(file.as_fd(), "here", Purpose::Write, true).unwrap());
        foreign_record(&dir, 1);
        let lost = keep_every(Arc::downgrade(&second), pause).await.unwrap_err();
        assert!(lost.to_string().contains("pod far/away"), "{lost}");
    }
}
