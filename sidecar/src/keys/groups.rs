//! Grouped wrapping: the KMS wraps a group key, which wraps the DEKs of new files here.
//!
//! One group is in use and one stands ready, so that making a file waits for no KMS. Their records lie in the volume, by
//! which the next sidecar goes on with them.
//!
//! Invariant: a group key wraps at most 65,536 DEKs, counted in the record before they are used. A group is closed by
//! deleting its record; files of a closed group stand alone and need nothing from it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use envelope::{
    Dek, FileId, GroupId, GroupKey, GroupRecord, KmsContext, VolumeId, WrappedKey, Wrapping, unwrap_dek,
    wrap_dek,
};
use kms::CallCtx;

use super::error::KeyError;
use super::group_records::GroupRecords;
use super::root::RootKey;

/// DEKs that one group key wraps at most.
pub const MOST_FILES: u64 = 65_536;
/// Seconds that a group is open at most.
pub const LONGEST: i64 = 24 * 3600;
/// DEKs that one write of the record makes room for.
const STEP: u64 = 1024;
/// Groups that are kept ready: the one in use, and the next.
const READY: usize = 2;

/// An open group with its key.
struct OpenGroup {
    record: GroupRecord,
    key: GroupKey,
    /// DEKs wrapped so far; never above the record's count.
    used: u64,
}

/// Whether a group with this record takes no more files.
pub fn is_closed(record: &GroupRecord, used: u64, now: i64, current: Option<&str>) -> bool {
    let age = now.saturating_sub(record.created);
    // A clock that went back makes the age unknowable: better a new group than one that is open for ever.
    let old = !(-3600..LONGEST).contains(&age);
    let retired = is_retired(&record.key, current);
    used >= MOST_FILES || old || retired
}

/// Whether `key` is known to be wrapped by another version than the current one.
pub fn is_retired(key: &WrappedKey, current: Option<&str>) -> bool {
    !key.version.is_empty() && current.is_some_and(|version| version != key.version)
}

/// The open groups of a volume.
pub struct Groups {
    records: GroupRecords,
    volume: VolumeId,
    root: Arc<RootKey>,
    open: Mutex<VecDeque<OpenGroup>>,
    /// Held by whoever makes, resumes or closes groups.
    making: tokio::sync::Mutex<()>,
}

impl Groups {
    /// The groups of `volume`, whose records lie in `dir`.
    pub fn new(dir: OwnedFd, volume: VolumeId, root: Arc<RootKey>) -> Self {
        Self {
            records: GroupRecords::new(dir),
            volume,
            root,
            open: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// Wraps the DEK of a new file; `None` where no group is ready.
    pub fn wrap(
        &self,
        file: FileId,
        dek: &Dek,
        current: Option<&str>,
    ) -> Result<Option<WrappedKey>, KeyError> {
        let mut open = self.open();
        // The one in use makes way only if another one is there: better an old group than none.
        while open.len() > 1 && open.front().is_some_and(|group| group.is_closed(current)) {
            let closed = open.pop_front().expect("there are two");
            self.records.remove(closed.record.group);
        }
        let Some(group) = open.front_mut().filter(|group| group.used < MOST_FILES) else {
            return Ok(None);
        };
        if group.used >= group.record.count {
            let mut record = group.record.clone();
            record.count = (group.used + STEP).min(MOST_FILES);
            self.records.write(&record)?;
            group.record = record;
        }
        group.used += 1;
        let (record, wrapped) = (&group.record, &group.record.key);
        let local = wrap_dek(&group.key, record.group, self.volume, file, dek)?;
        Ok(Some(WrappedKey::new(
            wrapped.provider,
            wrapped.context,
            wrapped.root_key.clone(),
            wrapped.version.clone(),
            wrapped.blob.clone(),
            Wrapping::Grouped(local),
        )?))
    }

    /// The DEK of `file`, if `key` is the wrapped key of an open group: its key is here already.
    pub fn unwrap(&self, key: &WrappedKey, file: FileId) -> Option<Dek> {
        let Wrapping::Grouped(local) = &key.wrapping else { return None };
        let open = self.open();
        let group = open.iter().find(|group| group.record.key.blob == key.blob)?;
        unwrap_dek(&group.key, self.volume, file, local).ok()
    }

    /// Whether [`Groups::prepare`] has something to do.
    pub fn wants(&self, current: Option<&str>) -> bool {
        self.open().iter().filter(|group| !group.is_closed(current)).count() < READY
    }

    /// Brings as many groups as should stand ready: those that the volume still has, else new ones.
    pub async fn prepare(&self, current: Option<&str>) -> Result<(), KeyError> {
        let _making = self.making.lock().await;
        if self.open().is_empty() {
            self.resume(current).await?;
        }
        // Not until it wants no more: after a rotation that nobody noticed yet, every new group looks retired.
        for _ in 0..READY {
            if !self.wants(current) {
                break;
            }
            let group = self.create().await?;
            self.open().push_back(group);
        }
        Ok(())
    }

    /// Closes every group that was wrapped by another version than `current`, once others are ready: from then on no
    /// new file needs an older version.
    pub async fn close_others(&self, current: &str) -> Result<(), KeyError> {
        self.prepare(Some(current)).await?;
        let _making = self.making.lock().await;
        let closed = {
            let mut open = self.open();
            let (keep, closed): (VecDeque<_>, VecDeque<_>) =
                open.drain(..).partition(|group| !is_retired(&group.record.key, Some(current)));
            *open = keep;
            closed.iter().map(|group| group.record.group).collect()
        };
        self.remove(closed).await
    }

    /// Drops every group key; the records stay.
    pub fn forget(&self) {
        self.open().clear();
    }

    async fn create(&self) -> Result<OpenGroup, KeyError> {
        let (key, group) = (GroupKey::generate()?, GroupId::generate()?);
        let context = KmsContext::group_key(self.volume, group);
        let wrapped = self.root.wrap(key.expose(), &context, &CallCtx::new()).await?;
        let record = GroupRecord::create(&key, group, self.volume, now(), wrapped);
        let added = record.clone();
        self.records.in_background(move |records| records.add(&added)).await?;
        tracing::debug!(%group, version = %record.key.version, "opened a group");
        Ok(OpenGroup { record, key, used: 0 })
    }

    /// Goes on with groups of an earlier process; removes records that are of no more use.
    async fn resume(&self, current: Option<&str>) -> Result<(), KeyError> {
        for record in self.records.in_background(GroupRecords::list).await? {
            let spent = is_closed(&record, record.count, now(), current) || !self.root.wrapped(&record.key);
            if spent || record.origin != self.volume || self.open().len() >= READY {
                self.remove(vec![record.group]).await?;
                continue;
            }
            let context = record.context();
            let opened = match self.root.unwrap(&record.key, &context, &CallCtx::new()).await {
                Ok(unwrapped) if unwrapped.rewrapped.is_none() => {
                    let key = unwrapped.group_key();
                    record.verify(&key).map(|()| key).map_err(KeyError::from)
                }
                // Wrapped by a version that is retired: no more files for it.
                Ok(_) => {
                    self.remove(vec![record.group]).await?;
                    continue;
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(key) => {
                    tracing::debug!(group = %record.group, "resumed a group");
                    let used = record.count;
                    self.open().push_back(OpenGroup { record, key, used });
                }
                Err(error) if error.is_outage() || error.is_refusal() => return Err(error),
                Err(error) => {
                    tracing::warn!(group = %record.group, reason = error.reason(), "a group record is of no use; files are not concerned");
                    self.remove(vec![record.group]).await?;
                }
            }
        }
        Ok(())
    }

    async fn remove(&self, groups: Vec<GroupId>) -> Result<(), KeyError> {
        let work = move |records: &GroupRecords| {
            for group in &groups {
                records.remove(*group);
            }
            Ok(())
        };
        self.records.in_background(work).await
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<OpenGroup>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl OpenGroup {
    fn is_closed(&self, current: Option<&str>) -> bool {
        is_closed(&self.record, self.used, now(), current)
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
