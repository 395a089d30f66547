//! The records of open groups, as files in the volume: `.cofferdam/groups`.
//!
//! Invariant: a record is one page and replaced by one write: old or new after a crash. No file of the volume depends on a
//! record, so that a damaged one is removed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use envelope::{GROUP_RECORD_LEN, GroupId, GroupRecord, GroupRecordError};
use rustix::fs::{AtFlags, Mode, OFlags, unlinkat};
use rustix::io::Errno;

use super::error::KeyError;
use crate::volume::{entries, open_file};

/// See the module.
#[derive(Clone)]
pub struct GroupRecords {
    dir: Arc<OwnedFd>,
}

impl GroupRecords {
    /// The records in `dir`.
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir: Arc::new(dir) }
    }

    /// Does `work` with the records on a thread that may wait for the storage.
    pub async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let records = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&records)).await;
        done.unwrap_or(Err(KeyError::Io(io::ErrorKind::Other)))
    }

    /// Records of open groups. One that is damaged is removed: no file depends on it.
    pub fn list(&self) -> Result<Vec<GroupRecord>, KeyError> {
        let mut records = Vec::new();
        for entry in entries(&self.dir)? {
            let (name, _) = entry?;
            let file = match open_file(&self.dir, name.as_c_str(), OFlags::RDONLY, Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NXIO | Errno::LOOP) => {
                    self.discard(&name);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot open a group record; files are not concerned");
                    continue;
                }
            };
            match read_record(&file)? {
                Ok(record) if record.group.to_string().as_bytes() == name.to_bytes() => records.push(record),
                // Of a later version of this program.
                Err(GroupRecordError::UnsupportedVersion(_)) => {}
                Ok(_) | Err(_) => self.discard(&name),
            }
        }
        // The one in use before the one that stood ready.
        records.sort_by_key(|record| (record.created, std::cmp::Reverse(record.count)));
        Ok(records)
    }

    /// Removes what stands in a record's place and is none.
    fn discard(&self, name: &CStr) {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => tracing::warn!("removed a damaged group record; files are not concerned"),
            Err(error) => {
                tracing::warn!(%error, "cannot remove a damaged group record; files are not concerned");
            }
        }
    }

    /// Writes a record: one page, one write.
    pub fn write(&self, record: &GroupRecord) -> Result<(), KeyError> {
        let (name, flags) = (record.group.to_string(), OFlags::WRONLY | OFlags::CREATE);
        let file = open_file(&self.dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
        file.write_all_at(&record.encode()?, 0)?;
        file.sync_data()?;
        Ok(())
    }

    /// Writes the record of a group that was just made, and makes its name durable.
    pub fn add(&self, record: &GroupRecord) -> Result<(), KeyError> {
        self.write(record)?;
        rustix::fs::fsync(&self.dir).map_err(io::Error::from)?;
        Ok(())
    }

    /// Removes the record of a closed group.
    pub fn remove(&self, group: GroupId) {
        match unlinkat(self.dir.as_fd(), group.to_string(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(%error, "cannot remove the record of a closed group"),
        }
    }
}

/// Reads a record's page; the outer error is about the file, the inner one about its contents.
pub fn read_record(file: &File) -> io::Result<Result<GroupRecord, GroupRecordError>> {
    let mut page = vec![0; GROUP_RECORD_LEN];
    match file.read_exact_at(&mut page, 0) {
        Ok(()) => Ok(GroupRecord::parse(&page)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(GroupRecordError::NotOurs)),
        Err(error) => Err(error),
    }
}
