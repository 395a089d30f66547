//! A small file that somebody else may replace at any time: a projected Secret, a token, a CA bundle.
//!
//! Invariant: contents are zeroized on drop; a change is noticed by the file's identity and times, at most a
//! second late, so that a call does not cost a read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A credential or a CA bundle is smaller.
const MAX_LEN: u64 = 1 << 20;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells one content from another without a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that is read again when it changes.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    looked: Mutex<Option<Instant>>,
}

impl WatchedFile {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), looked: Mutex::new(None) }
    }

    /// The content and the stamp that it had: taken before, so that a change in between is noticed next time.
    pub(crate) async fn read(&self) -> io::Result<(Zeroizing<Vec<u8>>, Stamp)> {
        let stamp = self.stamp().await?;
        let file = tokio::fs::File::open(&self.path).await?;
        let mut content = Zeroizing::new(Vec::with_capacity(stamp.len.min(MAX_LEN) as usize + 1));
        file.take(MAX_LEN + 1).read_to_end(&mut content).await?;
        if content.len() as u64 > MAX_LEN {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok((content, stamp))
    }

    /// The file is another one than `seen`; `false` while it was looked at within the last second or cannot be read.
    pub(crate) async fn changed_since(&self, seen: &Stamp) -> bool {
        if !self.may_look() {
            return false;
        }
        self.stamp().await.is_ok_and(|stamp| stamp != *seen)
    }

    fn may_look(&self) -> bool {
        let mut looked = self.looked.lock().expect("no holder of this lock panics");
        let now = Instant::now();
        if looked.is_some_and(|at| now.duration_since(at) < LOOK_EVERY) {
            return false;
        }
        *looked = Some(now);
        true
    }

    async fn stamp(&self) -> io::Result<Stamp> {
        let meta = tokio::fs::metadata(&self.path).await?;
        Ok(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_as_kubelet_does_it_is_noticed_once_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("key");
        std::fs::write(dir.path().join("v1"), "one").unwrap();
        std::fs::write(dir.path().join("v2"), "two").unwrap();
        std::os::unix::fs::symlink("v1", &link).unwrap();
        let file = WatchedFile::new(&link);
        let (content, stamp) = file.read().await.unwrap();
        assert_eq!(content.as_slice(), b"one");
        assert!(!file.changed_since(&stamp).await);

        std::os::unix::fs::symlink("v2", dir.path().join("next")).unwrap();
        std::fs::rename(dir.path().join("next"), &link).unwrap();
        assert!(!file.changed_since(&stamp).await, "looked at a moment ago");
        tokio::time::sleep(LOOK_EVERY).await;
        assert!(file.changed_since(&stamp).await);
        assert_eq!(file.read().await.unwrap().0.as_slice(), b"two");
    }

    #[tokio::test]
    async fn an_endless_file_is_not_read_to_its_end() {
        let error = WatchedFile::new("/dev/zero").read().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
