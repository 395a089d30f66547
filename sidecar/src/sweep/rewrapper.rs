//! Rewraps wrapped keys at the KMS, each blob once.
//!
//! Invariant: what is remembered is found by the old blob and its context, never by what a header claims about its group;
//! an outage is waited for, a refusal ends the sweep, and a blob that does not open concerns its own file only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envelope::{KmsContext, WrappedKey};
use kms::CallCtx;
use tokio::runtime::Handle;

use super::SweepError;
use crate::keys::{KeyError, RootKey};

/// Blobs that are remembered; a volume has one for each 65,536 files.
const MOST: usize = 4096;
/// The longest that one call may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest pause between two tries while the KMS gives no answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What became of a wrapped key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrapped {
    /// Here it is under the current version.
    Fresh(WrappedKey),
    /// It is of the current version already.
    Current,
    /// The KMS does not open it.
    Unusable,
}

/// Digest of the old blob, and its context.
type Id = ([u8; 32], [u8; 32]);
/// A blob and a version, as the KMS made them.
type Remembered = HashMap<Id, (Vec<u8>, String)>;

/// Told of trouble, and of its end.
pub type OnTrouble = Box<dyn FnMut(Option<&KeyError>) + Send>;

/// The rewrapper of one sweep.
pub struct Rewrapper {
    root: Arc<RootKey>,
    handle: Handle,
    cancelled: Arc<AtomicBool>,
    remembered: Remembered,
    /// Blobs that the KMS does not open: asked about once.
    unusable: HashSet<Id>,
    /// Versions that count as reached: the target, and whatever the KMS wrapped with since.
    reached: HashSet<String>,
    /// Blobs that this sweep made, where the KMS names no version.
    made: HashSet<[u8; 32]>,
    /// Told when the KMS stops answering, and `None` when it answers again.
    pub on_trouble: OnTrouble,
}

impl Rewrapper {
    /// A rewrapper that leads to version `target`.
    pub fn new(root: Arc<RootKey>, handle: Handle, cancelled: Arc<AtomicBool>, target: &str) -> Self {
        let reached = HashSet::from([target.to_owned()]);
        Self {
            root,
            handle,
            cancelled,
            remembered: HashMap::new(),
            unusable: HashSet::new(),
            reached,
            made: HashSet::new(),
            on_trouble: Box::new(|_| {}),
        }
    }

    /// Whether `key` was wrapped by the root key that this sweep is about.
    pub fn concerns(&self, key: &WrappedKey) -> bool {
        self.root.wrapped(key)
    }

    /// Whether `key` needs a rewrap.
    pub fn is_old(&self, key: &WrappedKey) -> bool {
        let made = key.version.is_empty() && self.made.contains(&key.blob_digest());
        !self.reached.contains(&key.version) && !made
    }

    /// Rewraps `key`; waits while the KMS gives no answer. `shared`: the blob is a group key's, and will come again.
    pub fn rewrap(
        &mut self,
        key: &WrappedKey,
        context: &KmsContext,
        shared: bool,
    ) -> Result<Rewrapped, SweepError> {
        let id = (key.blob_digest(), *context.as_bytes());
        if let Some((blob, version)) = self.remembered.get(&id) {
            return Ok(key
                .rewrapped(blob.clone(), version.clone())
                .map_or(Rewrapped::Unusable, Rewrapped::Fresh));
        }
        if self.unusable.contains(&id) {
            return Ok(Rewrapped::Unusable);
        }
        let mut pause = Duration::from_millis(250);
        let mut troubled = false;
        let fresh = loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(SweepError::Cancelled);
            }
            let call = CallCtx::within(PATIENCE);
            match self.handle.block_on(self.root.rewrap(key, context, &call)) {
                Ok(fresh) => break fresh,
                Err(error) if error.is_refusal() => return Err(SweepError::Refused(error)),
                Err(error) if error.is_outage() => {
                    (self.on_trouble)(Some(&error));
                    troubled = true;
                }
                Err(_) => {
                    if self.unusable.len() < MOST {
                        self.unusable.insert(id);
                    }
                    return Ok(Rewrapped::Unusable);
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if troubled {
            (self.on_trouble)(None);
        }
        Ok(self.remember(key, shared.then_some(id), fresh))
    }

    fn remember(&mut self, old: &WrappedKey, id: Option<Id>, fresh: WrappedKey) -> Rewrapped {
        if fresh.version.is_empty() {
            self.made.insert(fresh.blob_digest());
        } else {
            self.reached.insert(fresh.version.clone());
        }
        if !fresh.version.is_empty() && fresh.version == old.version {
            return Rewrapped::Current;
        }
        if let Some(id) = id
            && self.remembered.len() < MOST
        {
            self.remembered.insert(id, (fresh.blob.clone(), fresh.version.clone()));
        }
        Rewrapped::Fresh(fresh)
    }
}
