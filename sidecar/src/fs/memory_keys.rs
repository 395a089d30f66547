//! A key store without a KMS, for tests and benches: every DEK lies in the header, wrapped by a key in memory.
//!
//! Invariant: never used by a program that serves a pod; nothing constructs it outside tests, benches and examples.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use envelope::{
    ContextScheme, Dek, FileDek, FileId, GroupId, GroupKey, HeaderRegion, KeySlot, Provider, RandomError,
    VolumeId, WrappedKey, Wrapping, unwrap_dek, wrap_dek,
};

use super::keys::{FileKeys, KeyFailure, NewFile, OpenedFile};

/// One group key, which never leaves memory.
pub struct MemoryKeys {
    volume: VolumeId,
    group: GroupId,
    key: GroupKey,
    version: Mutex<String>,
    suspended: AtomicBool,
    unreachable: AtomicBool,
    delay: Mutex<Duration>,
    renewed: Mutex<Option<Instant>>,
    opens: AtomicU64,
    creates: AtomicU64,
}

impl MemoryKeys {
    /// A store with a fresh group key.
    pub fn generate(volume: VolumeId) -> Result<Self, RandomError> {
        Ok(Self {
            volume,
            group: GroupId::generate()?,
            key: GroupKey::generate()?,
            version: Mutex::new("1".into()),
            suspended: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            delay: Mutex::default(),
            renewed: Mutex::default(),
            opens: AtomicU64::new(0),
            creates: AtomicU64::new(0),
        })
    }

    /// A store that a later process can make again.
    pub fn with_key(volume: VolumeId, group: GroupId, key: GroupKey) -> Result<Self, RandomError> {
        Ok(Self { group, key, ..Self::generate(volume)? })
    }

    /// As if the root key were disabled, or enabled again.
    pub fn set_suspended(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::SeqCst);
    }

    /// As if the KMS gave no answer, with keys that may still be used; or as if it answered again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::SeqCst);
    }

    /// As if the KMS took this long.
    pub fn set_delay(&self, delay: Duration) {
        *lock(&self.delay) = delay;
    }

    /// As if the root key were rotated.
    pub fn rotate(&self, version: &str) {
        version.clone_into(&mut lock(&self.version));
        *lock(&self.renewed) = Some(Instant::now());
    }

    /// Calls of [`FileKeys::open`] so far.
    pub fn opens(&self) -> u64 {
        self.opens.load(Ordering::SeqCst)
    }

    /// Calls of [`FileKeys::create`] so far.
    pub fn creates(&self) -> u64 {
        self.creates.load(Ordering::SeqCst)
    }

    fn wrapped(&self, file: FileId, dek: &Dek) -> Result<WrappedKey, KeyFailure> {
        let local =
            wrap_dek(&self.key, self.group, self.volume, file, dek).map_err(|_| KeyFailure::Failed)?;
        let version = lock(&self.version).clone();
        let wrapping = Wrapping::Grouped(local);
        WrappedKey::new(
            Provider::KeyProtect,
            ContextScheme::None,
            "memory",
            version,
            b"memory".to_vec(),
            wrapping,
        )
        .map_err(|_| KeyFailure::Failed)
    }

    fn wait(&self) {
        let delay = *lock(&self.delay);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl FileKeys for MemoryKeys {
    fn permit(&self) -> Result<(), KeyFailure> {
        if self.suspended.load(Ordering::SeqCst) { Err(KeyFailure::Suspended) } else { Ok(()) }
    }

    fn create(&self) -> Result<NewFile, KeyFailure> {
        self.wait();
        self.permit()?;
        self.creates.fetch_add(1, Ordering::SeqCst);
        let file = FileId::generate().map_err(|_| KeyFailure::Failed)?;
        let dek = Dek::generate().map_err(|_| KeyFailure::Failed)?;
        let slot = KeySlot::first(vec![self.wrapped(file, &dek)?], true).map_err(|_| KeyFailure::Failed)?;
        Ok(NewFile { file, dek, slot })
    }

    fn open(&self, header: &HeaderRegion) -> Result<OpenedFile, KeyFailure> {
        self.wait();
        self.permit()?;
        self.opens.fetch_add(1, Ordering::SeqCst);
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(KeyFailure::Unreachable);
        }
        let (_, slot) = header.current().map_err(|_| KeyFailure::Failed)?;
        let wrapped = slot.keys().first().ok_or(KeyFailure::NotAccepted)?;
        let Wrapping::Grouped(local) = &wrapped.wrapping else {
            return Err(KeyFailure::NotAccepted);
        };
        let preamble = header.preamble();
        let (origin, file) = (preamble.origin(), preamble.file_id());
        let dek = unwrap_dek(&self.key, origin, file, local).map_err(|_| KeyFailure::Rejected)?;
        let dek = FileDek::verify(dek, preamble).map_err(|_| KeyFailure::Rejected)?;
        let retired = wrapped.version != *lock(&self.version);
        let upgrade = if retired {
            let fresh = self.wrapped(file, dek.dek())?;
            Some(slot.successor(vec![fresh], true).map_err(|_| KeyFailure::Failed)?)
        } else {
            None
        };
        Ok(OpenedFile { dek, upgrade })
    }

    fn is_stale(&self, since: Instant) -> bool {
        lock(&self.renewed).is_some_and(|renewed| since <= renewed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
