//! What the driver remembers of each published volume, so that a restart finds it: one JSON file for each in a directory.
//!
//! Invariant: a file is replaced atomically and is durable before the caller goes on; what a file says is checked against
//! the mount table before anything is done with it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::target::Key;

/// A pod, by the names that a request carried and the API confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A published volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whose volume it is.
    pub pod: PodName,
    /// Name of the CSI volume in the pod's specification.
    pub csi_volume: String,
    /// What is published.
    pub kind: Kind,
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Kind {
    /// A FUSE mount.
    Plain(Plain),
    /// The directory with the pod's socket.
    Ctl,
}

/// A FUSE mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plain {
    /// Name of the protected volume in the pod's specification.
    pub volume: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Device minor of the connection.
    pub connection: u32,
    /// The mount's source: unique, so that a connection whose number was given away again is not taken for this one. (A mount's
    /// id would not do: each restart of the driver sees the mounts in a new mount namespace, under new ids.)
    pub source: String,
    /// How far its session got.
    pub stage: Stage,
}

/// How far a session got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Nobody but a sidecar saw the mount: it can be replaced.
    Unseen,
    /// A sidecar said `Serving`: it is the only session there can be.
    Serving,
    /// The connection was aborted.
    Ended,
}

impl Record {
    /// Under which it is kept.
    pub fn key(&self) -> Key {
        Key { pod_uid: self.pod.uid.clone(), volume: self.csi_volume.clone() }
    }
}

/// The directory.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
}

/// Why the directory is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The directory could not be made or listed.
    #[error("open the directory of records")]
    Open(#[source] io::Error),
    /// A record could not be made durable.
    #[error("write a record")]
    Write(#[source] io::Error),
    /// A record could not be removed.
    #[error("remove a record")]
    Remove(#[source] io::Error),
}

impl Records {
    /// Makes the directory if need be.
    pub fn open(dir: PathBuf) -> Result<Self, RecordError> {
        fs::create_dir_all(&dir).map_err(RecordError::Open)?;
        Ok(Self { dir })
    }

    /// Every record. One that cannot be read is set aside under another name and logged, so that the others are not held up.
    pub fn load(&self) -> Result<Vec<Record>, RecordError> {
        let mut records = vec![];
        for entry in fs::read_dir(&self.dir).map_err(RecordError::Open)? {
            let path = entry.map_err(RecordError::Open)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path)
                .map_err(serde_json::Error::io)
                .and_then(|json| serde_json::from_slice(&json))
            {
                Ok(record) => records.push(record),
                Err(error) => set_aside(&path, &error),
            }
        }
        Ok(records)
    }

    /// Writes a record; it is durable when this returns.
    pub fn save(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.path(&record.key());
        let json = serde_json::to_vec(record).map_err(|error| RecordError::Write(error.into()))?;
        write_durably(&self.dir, &path, &json).map_err(RecordError::Write)
    }

    /// Forgets a record; none is fine.
    pub fn remove(&self, key: &Key) -> Result<(), RecordError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RecordError::Remove(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{}_{}.json", key.pod_uid, key.volume))
    }
}

fn write_durably(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(dir)?.sync_all()
}

fn set_aside(path: &Path, error: &serde_json::Error) {
    tracing::error!(file = %path.display(), %error, "a record cannot be read; it is set aside");
    if let Err(error) = fs::rename(path, path.with_extension("unreadable")) {
        tracing::error!(file = %path.display(), %error, "an unreadable record stays where it is");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn record(volume: &str) -> Record {
        let pod = PodName { namespace: "shop".into(), name: "db-0".into(), uid: "6c2e0a5e".into() };
        let plain = Plain {
            volume: "data".into(),
            read_only: false,
            connection: 61,
            source: "cofferdam:1".into(),
            stage: Stage::Unseen,
        };
        Record { pod, csi_volume: volume.into(), kind: Kind::Plain(plain) }
    }

    #[test]
    fn a_record_is_read_back_as_written_and_replaced_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().join("state")).unwrap();
        let mut written = record("cofferdam-vol-data");
        records.save(&written).unwrap();
        let Kind::Plain(plain) = &mut written.kind else { panic!() };
        plain.stage = Stage::Serving;
        records.save(&written).unwrap();
        assert_eq!(records.load().unwrap(), vec![written.clone()]);
        records.remove(&written.key()).unwrap();
        records.remove(&written.key()).unwrap();
        assert_eq!(records.load().unwrap(), vec![]);
    }

    #[test]
    fn a_damaged_or_unfinished_record_does_not_hold_up_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().into()).unwrap();
        records.save(&record("one")).unwrap();
        fs::write(dir.path().join("u_two.json"), b"{\"pod\":").unwrap();
        fs::write(dir.path().join("u_three.new"), b"{").unwrap();
        assert_eq!(records.load().unwrap(), vec![record("one")]);
        assert!(dir.path().join("u_two.unreadable").exists());
        assert_eq!(records.load().unwrap().len(), 1);
    }
}
