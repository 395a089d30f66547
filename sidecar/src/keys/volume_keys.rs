//! The keys of one volume's files: new ones, and those behind headers.
//!
//! Invariant: a DEK leaves here only if it was verified against the header that asks for it; the header selects among the
//! configured root keys and volumes, and adds none.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use contract::config::Wrapping;
use envelope::{Dek, FileDek, FileId, HeaderRegion, KeySlot, KmsContext, VolumeId, WrappedKey, unwrap_dek};
use kms::CallCtx;
use tokio::sync::Notify;

use super::direct::{NewKey, Pool};
use super::error::KeyError;
use super::groups::{Groups, is_retired};
use super::root::RootKey;
use super::watch::KeyWatch;

/// The longest that an open waits for the KMS.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest that an open waits for a rewrap that could also be made later.
const LAZY_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries to fill the pool while the KMS fails.
const RETRY: Duration = Duration::from_secs(5);

/// Where new DEKs come from.
enum Source {
    Grouped(Groups),
    Direct(Pool),
}

/// An opened header.
#[derive(Debug)]
pub struct OpenedKey {
    /// The file's DEK.
    pub dek: FileDek,
    /// A slot that should replace the inactive one, because the current one names a retired version.
    pub upgrade: Option<KeySlot>,
}

/// What a volume's keys are made from.
pub struct KeySetup {
    /// The root key.
    pub root: Arc<RootKey>,
    /// The watch over it.
    pub watch: Arc<KeyWatch>,
    /// The volume.
    pub volume: VolumeId,
    /// Volumes whose files may be opened besides.
    pub accepted: Vec<VolumeId>,
    /// How new DEKs are wrapped.
    pub wrapping: Wrapping,
    /// `.cofferdam/groups`; not used with Direct wrapping.
    pub groups: std::os::fd::OwnedFd,
}

/// The keys of a volume.
pub struct VolumeKeys {
    root: Arc<RootKey>,
    watch: Arc<KeyWatch>,
    origins: HashSet<VolumeId>,
    volume: VolumeId,
    source: Source,
    refill: Notify,
    lazy_rewraps: AtomicU64,
    /// No more keys are made: the volume is another one's.
    ended: AtomicBool,
}

impl VolumeKeys {
    /// Makes no call; [`VolumeKeys::run`] fills the pool.
    pub fn new(setup: KeySetup) -> Self {
        let KeySetup { root, watch, volume, accepted, wrapping, groups } = setup;
        let source = match wrapping {
            Wrapping::Grouped => Source::Grouped(Groups::new(groups, volume, Arc::clone(&root))),
            Wrapping::Direct => Source::Direct(Pool::new(volume, Arc::clone(&root))),
        };
        let origins = accepted.into_iter().chain([volume]).collect();
        let (refill, lazy_rewraps) = (Notify::new(), AtomicU64::new(0));
        let ended = AtomicBool::new(false);
        Self { root, watch, origins, volume, source, refill, lazy_rewraps, ended }
    }

    /// The volume that new files belong to.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The watch over the root key.
    pub fn watch(&self) -> &KeyWatch {
        &self.watch
    }

    /// Slots made because an open met a retired version, since the process began.
    pub fn lazy_rewraps(&self) -> u64 {
        self.lazy_rewraps.load(Ordering::Relaxed)
    }

    /// A key for a new file, if one stands ready.
    pub fn create_now(&self) -> Result<Option<NewKey>, KeyError> {
        self.check()?;
        self.take(self.watch.current().as_deref())
    }

    /// A key for a new file. Waits for the KMS only where the pool is empty.
    pub async fn create(&self) -> Result<NewKey, KeyError> {
        self.check()?;
        let current = self.watch.current();
        if let Some(key) = self.take(current.as_deref())? {
            return Ok(key);
        }
        self.prepare(current.as_deref()).await?;
        self.check()?;
        self.take(current.as_deref())?.ok_or(KeyError::Unreachable("NoGroupReady"))
    }

    /// Fails unless keys may be used and made now.
    fn check(&self) -> Result<(), KeyError> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(KeyError::Ended);
        }
        self.watch.check()
    }

    /// Makes no more keys, writes no more group records, and drops what stands ready: the volume is another one's.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.forget();
        self.refill.notify_one();
    }

    fn take(&self, current: Option<&str>) -> Result<Option<NewKey>, KeyError> {
        let key = match &self.source {
            Source::Direct(pool) => pool.take(current),
            Source::Grouped(groups) => {
                let (file, dek) = (FileId::generate()?, Dek::generate()?);
                groups.wrap(file, &dek, current)?.map(|wrapped| NewKey { file, dek, wrapped })
            }
        };
        if self.wants(current) {
            self.refill.notify_one();
        }
        Ok(key)
    }

    fn wants(&self, current: Option<&str>) -> bool {
        match &self.source {
            Source::Grouped(groups) => groups.wants(current),
            Source::Direct(pool) => pool.wants(current),
        }
    }

    async fn prepare(&self, current: Option<&str>) -> Result<(), KeyError> {
        self.check()?;
        let result = match &self.source {
            Source::Grouped(groups) => groups.prepare(current).await,
            Source::Direct(pool) => pool.prepare(current).await,
        };
        self.forget_unless_permitted();
        result.inspect_err(|error| self.watch.met(error))
    }

    /// What was asked for before keys were withheld, and came after they had been dropped, is dropped too.
    fn forget_unless_permitted(&self) {
        if self.check().is_err() {
            self.forget();
        }
    }

    /// From when this returns, no new file is wrapped by another version than `current`.
    pub async fn close_others(&self, current: &str) -> Result<(), KeyError> {
        self.check()?;
        let result = match &self.source {
            Source::Grouped(groups) => groups.close_others(current).await,
            Source::Direct(pool) => pool.close_others(current).await,
        };
        self.forget_unless_permitted();
        result
    }

    /// Keeps the pool filled, until [`VolumeKeys::end`]; drops it whenever keys may not be used.
    pub async fn run(&self) {
        let mut seen = self.watch.subscribe();
        while !self.ended.load(Ordering::SeqCst) {
            let (serves, current) = {
                let seen = seen.borrow_and_update();
                (seen.access.serves(), seen.current.clone())
            };
            let mut failed = false;
            if !serves {
                self.forget();
            } else if self.wants(current.as_deref()) {
                failed = self.prepare(current.as_deref()).await.is_err();
                // Every new group is of a newer version than the one known.
                if !failed && self.wants(current.as_deref()) {
                    self.watch.look_now();
                    failed = true;
                }
            }
            let pause = if failed { RETRY } else { Duration::from_mins(1) };
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = self.refill.notified(), if !failed => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Drops every key that stands ready.
    pub fn forget(&self) {
        match &self.source {
            Source::Grouped(groups) => groups.forget(),
            Source::Direct(pool) => pool.forget(),
        }
    }

    /// The DEK behind a header, verified. Tries the current slot, then the other one.
    pub async fn open(&self, region: &HeaderRegion) -> Result<OpenedKey, KeyError> {
        self.watch.check()?;
        let preamble = region.preamble();
        if !self.origins.contains(&preamble.origin()) {
            return Err(KeyError::Origin(preamble.origin()));
        }
        let (index, current) = region.current()?;
        let other = region.slots()[1 - index].valid();
        let mut last = KeyError::NotOurs;
        for (slot, is_current) in [(Some(current), true), (other, false)] {
            let keys = slot.map_or(&[][..], KeySlot::keys).iter().enumerate();
            for (place, key) in keys.filter(|(_, key)| self.root.wrapped(key)) {
                match self.open_with(region, key).await {
                    Ok((dek, fresh)) => {
                        // A fallback is not upgraded: that would overwrite the only slot that opens.
                        let fresh = fresh.filter(|_| is_current);
                        let upgrade = fresh.map(|fresh| upgraded(current, place, fresh)).transpose()?;
                        self.lazy_rewraps.fetch_add(u64::from(upgrade.is_some()), Ordering::Relaxed);
                        if !is_current {
                            tracing::warn!(reason = last.reason(), "a file opens by its older key slot only");
                        }
                        self.watch.check()?;
                        return Ok(OpenedKey { dek, upgrade });
                    }
                    Err(error) if error.is_refusal() || error.is_outage() => {
                        self.watch.met(&error);
                        return Err(error);
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    /// Asks the KMS (or the cache before it).
    async fn unwrap(
        &self,
        key: &WrappedKey,
        context: &KmsContext,
        origin: VolumeId,
        file: FileId,
    ) -> Result<Unwrapped, KeyError> {
        let unwrapped = self.root.unwrap(key, context, &CallCtx::within(PATIENCE)).await?;
        let dek = match &key.wrapping {
            envelope::Wrapping::Direct => unwrapped.dek(),
            envelope::Wrapping::Grouped(local) => unwrap_dek(&unwrapped.group_key(), origin, file, local)?,
        };
        Ok((dek, unwrapped.rewrapped))
    }

    /// The DEK by one wrapped key, and that key under the current version where it is retired.
    async fn open_with(
        &self,
        region: &HeaderRegion,
        key: &WrappedKey,
    ) -> Result<(FileDek, Option<WrappedKey>), KeyError> {
        let preamble = region.preamble();
        let (origin, file) = (preamble.origin(), preamble.file_id());
        let context = key.file_context(origin, file);
        let at_hand = match &self.source {
            Source::Grouped(groups) if origin == self.volume => groups.unwrap(key, file),
            Source::Grouped(_) | Source::Direct(_) => None,
        };
        let (dek, mut fresh) = match at_hand {
            Some(dek) => (dek, None),
            None => self.unwrap(key, &context, origin, file).await?,
        };
        let dek = FileDek::verify(dek, preamble)?;
        self.watch.sample(key, context);
        if fresh.is_none() && is_retired(key, self.watch.current().as_deref()) {
            let call = CallCtx::within(LAZY_PATIENCE);
            // Not now means later: the next open or the sweep.
            fresh = self.root.rewrap(key, &context, &call).await.ok();
        }
        Ok((dek, fresh.filter(|fresh| fresh.blob != key.blob)))
    }
}

/// What an unwrap gives: a DEK, and the wrapped key under the current version where it came for free.
type Unwrapped = (Dek, Option<WrappedKey>);

/// The slot after `slot`, with `fresh` in `place`: verified, because the DEK was.
fn upgraded(slot: &KeySlot, place: usize, fresh: WrappedKey) -> Result<KeySlot, KeyError> {
    let mut keys = slot.keys().to_vec();
    keys[place] = fresh;
    Ok(slot.successor(keys, true)?)
}
