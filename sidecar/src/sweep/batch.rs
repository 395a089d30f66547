//! Files by the batch: one `syncfs` makes the slots of a whole batch durable, and is the proof for the next one that the
//! slots it leaves standing are.
//!
//! Invariant: within a batch a file is rewrapped at most once, so that its other slot is always one that an earlier
//! `syncfs` covered.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use envelope::{HeaderRegion, KeySlot, KmsContext, MarkerRegion, WrappedKey, Wrapping};

use super::region_file::{Durability, RegionError, alone, open_regular, read, replace};
use super::report::Counts;
use super::rewrapper::{Rewrapped, Rewrapper};
use super::{Sweep, SweepError};
use crate::keys::read_record;
use crate::volume::{entries, names};

/// Files in a batch.
const MOST: usize = 512;

/// A sweep under way.
pub struct Batch {
    sweep: Sweep,
    rewrapper: Rewrapper,
    counts: Counts,
    rewrapped: u64,
    visited: u64,
    found_old: bool,
    /// Versions of slots that are written and not yet durable.
    pending: Vec<String>,
    /// Files with more than one link, by device and inode.
    links: HashSet<(u64, u64)>,
    /// Files rewrapped in this batch.
    touched: HashSet<(u64, u64)>,
}

impl std::ops::Deref for Batch {
    type Target = Sweep;
    fn deref(&self) -> &Sweep {
        &self.sweep
    }
}

impl Batch {
    /// Begins: what was written before, by whomever, becomes durable first.
    pub(super) fn new(sweep: Sweep, rewrapper: Rewrapper) -> Result<Self, SweepError> {
        let batch = Self {
            sweep,
            rewrapper,
            counts: Counts::default(),
            rewrapped: 0,
            visited: 0,
            found_old: false,
            pending: Vec::new(),
            links: HashSet::new(),
            touched: HashSet::new(),
        };
        batch.sync()?;
        Ok(batch)
    }

    /// Renames so far.
    pub(super) fn renames(&self) -> u64 {
        self.sweep.renames.as_ref().map_or(0, |count| count())
    }

    /// Nobody else changes the volume.
    pub(super) fn is_alone(&self) -> bool {
        self.sweep.renames.is_none()
    }

    /// Counts begin anew with each walk; the last one's hold.
    pub(super) fn begin_walk(&mut self) {
        self.counts = Counts::default();
        self.visited = 0;
        self.found_old = false;
        self.links.clear();
    }

    /// Whether the walk found anything of an older version that could be rewrapped. What could not be would be found by every
    /// walk again: it counts as unknown.
    pub(super) fn found_old(&self) -> bool {
        self.found_old
    }

    /// One more file that nothing is known of.
    pub(super) fn unknown(&mut self) {
        self.counts.unknown += 1;
    }

    /// Looks at one file and rewraps its keys if they are old.
    pub(super) fn visit(&mut self, file: &File) -> Result<(), SweepError> {
        self.sweep.pace.look();
        self.visited += 1;
        let Ok(metadata) = file.metadata() else {
            self.unknown();
            return Ok(());
        };
        let identity = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1 && !self.links.insert(identity) {
            return Ok(());
        }
        match self.rewrap_file(file, identity) {
            Ok(()) => Ok(()),
            Err(Failure::Sweep(error)) => Err(error),
            Err(Failure::File(error)) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a file's key version is not known"
                );
                self.unknown();
                Ok(())
            }
        }
    }

    fn rewrap_file(&mut self, file: &File, identity: (u64, u64)) -> Result<(), Failure> {
        // Another walk may meet a file of this very batch: its other slot is not durable yet.
        if self.touched.contains(&identity) {
            self.flush().map_err(Failure::Sweep)?;
        }
        let Some(region) = read::<envelope::Preamble>(file)? else {
            return Ok(());
        };
        let (_, slot) = region.current().map_err(RegionError::from)?;
        let Some(version) = self.version_of(slot) else {
            self.unknown();
            return Ok(());
        };
        if !slot.keys().iter().any(|key| self.rewrapper.concerns(key) && self.rewrapper.is_old(key)) {
            self.counts.add(&version);
            return Ok(());
        }
        let contexts = |key: &WrappedKey| {
            let preamble = region.preamble();
            key.file_context(preamble.origin(), preamble.file_id())
        };
        let Some(keys) = self.fresh_keys(slot, contexts).map_err(Failure::Sweep)? else {
            self.unknown();
            return Ok(());
        };
        self.sweep.pace.rewrap();
        let durability = if self.sweep.syncfs_is_durable { Durability::ByCaller } else { Durability::Here };
        let undisturbed = |work: &mut dyn FnMut()| match &self.sweep.undisturbed {
            Some(undisturbed) => undisturbed(identity, work),
            None => work(),
        };
        let successor = |now: &HeaderRegion| successor(&region, now, keys);
        let written = replace::<envelope::Preamble>(file, durability, &undisturbed, successor)?;
        match written.as_ref().unwrap_or(&region).current().map(|(_, slot)| slot) {
            Ok(slot) if written.is_some() => {
                self.found_old = true;
                self.rewrapped += 1;
                self.touched.insert(identity);
                self.pending.push(self.version_of(slot).unwrap_or_default());
            }
            // Somebody else rewrapped it meanwhile: look again.
            _ => {
                self.found_old = true;
                return self.count_as_it_is(file);
            }
        }
        if self.pending.len() >= MOST {
            self.flush().map_err(Failure::Sweep)?;
        }
        Ok(())
    }

    fn count_as_it_is(&mut self, file: &File) -> Result<(), Failure> {
        let Some(region) = read::<envelope::Preamble>(file)? else {
            return Ok(());
        };
        let (_, slot) = region.current().map_err(RegionError::from)?;
        match self.version_of(slot) {
            Some(version) => self.counts.add(&version),
            None => self.unknown(),
        }
        Ok(())
    }

    /// The version of the slot's key of our root key: the oldest one where there are several. `None` where the slot holds
    /// what this program does not know, or nothing of our root key.
    fn version_of(&self, slot: &KeySlot) -> Option<String> {
        if slot.unknown_entries() > 0 {
            return None;
        }
        let mut ours = slot.keys().iter().filter(|key| self.rewrapper.concerns(key));
        let first = ours.next()?;
        Some(ours.find(|key| self.rewrapper.is_old(key)).unwrap_or(first).version.clone())
    }

    /// The slot's keys, with those of ours rewrapped; `None` if the KMS does not open one of them.
    fn fresh_keys(
        &mut self,
        slot: &KeySlot,
        context: impl Fn(&WrappedKey) -> KmsContext,
    ) -> Result<Option<Vec<WrappedKey>>, SweepError> {
        let mut keys = slot.keys().to_vec();
        for key in &mut keys {
            if !self.rewrapper.concerns(key) || !self.rewrapper.is_old(key) {
                continue;
            }
            match self.rewrapper.rewrap(key, &context(key), matches!(key.wrapping, Wrapping::Grouped(_)))? {
                Rewrapped::Fresh(fresh) => *key = fresh,
                Rewrapped::Current => {}
                Rewrapped::Unusable => return Ok(None),
            }
        }
        Ok(Some(keys))
    }

    /// Makes the batch durable, and only then counts it.
    pub(super) fn flush(&mut self) -> Result<(), SweepError> {
        if !self.pending.is_empty() {
            self.sync()?;
        }
        for version in std::mem::take(&mut self.pending) {
            self.counts.add(&version);
        }
        self.touched.clear();
        self.sweep.progress.update(&self.counts, self.rewrapped, self.visited);
        Ok(())
    }

    fn sync(&self) -> Result<(), SweepError> {
        rustix::fs::syncfs(&self.sweep.root).map_err(|error| SweepError::Sync(error.into()))
    }

    /// Records of open groups: a Job leaves none of an older version behind.
    pub(super) fn group_records(&mut self, dir: &impl AsFd) -> Result<(), SweepError> {
        for entry in entries(dir).map_err(SweepError::Walk)? {
            let (name, _) = entry.map_err(SweepError::Walk)?;
            let Ok(Some(file)) = open_regular(dir.as_fd(), &name, true) else {
                self.unknown();
                continue;
            };
            let Ok(Ok(record)) = read_record(&file) else {
                self.unknown();
                continue;
            };
            self.group_record(&file, record)?;
        }
        Ok(())
    }

    fn group_record(&mut self, file: &File, mut record: envelope::GroupRecord) -> Result<(), SweepError> {
        if !self.rewrapper.concerns(&record.key) {
            self.unknown();
            return Ok(());
        }
        if self.rewrapper.is_old(&record.key) {
            match self.rewrapper.rewrap(&record.key, &record.context(), true)? {
                Rewrapped::Fresh(fresh) => record.key = fresh,
                Rewrapped::Current => {}
                Rewrapped::Unusable => {
                    self.unknown();
                    return Ok(());
                }
            }
            let Ok(page) = record.encode() else {
                self.unknown();
                return Ok(());
            };
            // One page: old or new after a crash, and no file depends on it.
            file.write_all_at(&page, 0).and_then(|()| file.sync_data()).map_err(SweepError::Sync)?;
            self.found_old = true;
            self.rewrapped += 1;
        }
        self.counts.add(&record.key.version);
        Ok(())
    }

    /// The marker comes last: its sweep epoch says that everything before it is durable.
    pub(super) fn finish(mut self, settled: bool) -> Result<(), SweepError> {
        // Slots that were not ours to write are counted too: those that the filesystem wrote because a file was opened.
        self.sync()?;
        let file = open_regular(self.sweep.dir.as_fd(), marker_name(), true).map_err(SweepError::Walk)?;
        let io = |kind| SweepError::Marker(RegionError::Io(std::io::Error::from(kind)));
        let file = file.ok_or_else(|| io(std::io::ErrorKind::NotFound))?;
        let region = read::<envelope::VolumeMarker>(&file).map_err(SweepError::Marker)?;
        let region = region.ok_or_else(|| io(std::io::ErrorKind::InvalidData))?;
        let region = self.rewrap_marker(&file, &region, settled)?;
        let version = region.current().ok().and_then(|(_, slot)| self.version_of(slot));
        match version {
            Some(version) => self.counts.add(&version),
            None => self.unknown(),
        }
        self.sweep.progress.update(&self.counts, self.rewrapped, self.visited);
        if settled {
            self.sweep.progress.complete();
        }
        Ok(())
    }

    fn rewrap_marker(
        &mut self,
        file: &File,
        region: &MarkerRegion,
        settled: bool,
    ) -> Result<MarkerRegion, SweepError> {
        let marker = |error: envelope::HeaderError| SweepError::Marker(error.into());
        let (_, slot) = region.current().map_err(marker)?;
        let epoch = region.sweep_epoch().map_err(marker)?;
        let context = KmsContext::volume_marker(region.marker().volume_id());
        // A marker that does not open keeps its keys, and counts under their version.
        let keys = self.fresh_keys(slot, |_| context)?.unwrap_or_else(|| slot.keys().to_vec());
        let changed = keys != slot.keys();
        if !changed && !settled {
            return Ok(region.clone());
        }
        self.rewrapped += u64::from(changed);
        let verified = slot.verified() && !changed;
        let successor = |now: &MarkerRegion| {
            let slot = now.current().ok()?.1.successor(keys, verified).ok()?;
            // Nothing authenticates the number that was found: the last one there is stays.
            Some(slot.with_sweep_epoch(if settled { epoch.saturating_add(1) } else { epoch }))
        };
        let written = replace(file, Durability::Here, &alone, successor).map_err(SweepError::Marker)?;
        Ok(written.unwrap_or_else(|| region.clone()))
    }
}

/// The next slot, if `now` is still what the keys were made from.
fn successor(seen: &HeaderRegion, now: &HeaderRegion, keys: Vec<WrappedKey>) -> Option<KeySlot> {
    let (_, slot) = now.current().ok()?;
    let same = seen.preamble() == now.preamble() && seen.current().is_ok_and(|(_, before)| before == slot);
    if same { slot.successor(keys, false).ok() } else { None }
}

fn marker_name() -> &'static std::ffi::CStr {
    const { assert!(matches!(names::MARKER.as_bytes(), b"volume")) };
    c"volume"
}

/// What one file's failure means.
enum Failure {
    /// The sweep ends.
    Sweep(SweepError),
    /// The file is unknown.
    File(RegionError),
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Self {
        Self::File(error)
    }
}
