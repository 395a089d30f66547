//! Whole volumes of a format version, committed, which every later program must open.
//!
//! Invariant: what is committed is never made anew: [`make`] refuses a folder that exists. A volume stands as a list of its
//! entries with their attributes, which git does not keep, and the files' bytes beside it; the KMS is a table of its answers.

pub mod make;
pub mod table;
pub mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use envelope::Ownership;
use serde::{Deserialize, Serialize};
use sidecar::keys::RootKey;
use sidecar::mount::Mounted;
use sidecar::profile::Lifetimes;

use crate::serving::{self, Make, Serving};
use table::{Answer, Table};
use tree::{Plain, Raw};

/// The root key of all of them.
pub const ROOT_KEY: &str = "3d8bfa36-13f4-4b3e-9a5d-6f0c2a7d4e51";

/// A committed volume.
#[derive(Debug, Serialize, Deserialize)]
pub struct Vector {
    /// Files belong to whom the storage says, or to whom an attribute of ours says.
    pub virtual_ownership: bool,
    /// No holes.
    pub strict: bool,
    /// Files are sealed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seal: bool,
    /// Versions of the root key, the current one last.
    pub versions: Vec<String>,
    /// What the KMS answers.
    pub answers: Vec<Answer>,
    /// What lies on the storage; directories before what is in them.
    pub raw: Vec<Raw>,
    /// What an application sees.
    pub plain: Vec<Plain>,
}

impl Vector {
    /// How such a volume is made.
    pub fn make(&self) -> Make {
        let ownership = if self.virtual_ownership { Ownership::Virtual } else { Ownership::Native };
        Make { ownership, strict: self.strict, seal: self.seal }
    }
}

/// The vector in `folder`.
pub fn load(folder: &Path) -> Result<Vector> {
    let text = std::fs::read_to_string(folder.join("volume.json")).context("read the vector")?;
    serde_json::from_str(&text).context("understand the vector")
}

/// A volume that is mounted in this process.
pub struct Open {
    /// It.
    pub serving: Serving,
    mounted: Option<Mounted>,
    runtime: tokio::runtime::Runtime,
    target: PathBuf,
}

impl Open {
    /// Serves the volume in `raw` on `target`.
    pub fn new(raw: &Path, target: &Path, table: &Arc<Table>, make: Make) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let key = kms::KeyRef(ROOT_KEY.into());
        let root_key = Arc::new(RootKey::new(Arc::clone(table) as _, key, envelope::Provider::KeyProtect));
        let hour = Duration::from_secs(3600);
        let lifetimes = Lifetimes { poll: hour, ttl: hour, grace: Duration::ZERO };
        let serving = runtime.block_on(serving::serve(raw, root_key, lifetimes, make))?;
        let mounted = sidecar::mount::mount(Arc::clone(&serving.served.fs), target)?;
        Ok(Self { serving, mounted: Some(mounted), runtime, target: target.to_owned() })
    }

    /// Unmounts it, and gives the lease back.
    pub fn close(mut self) -> Result<()> {
        crate::place::unmount(&self.target)?;
        if let Some(mounted) = self.mounted.take() {
            mounted.wait();
        }
        self.serving.served.fs.seal_closed();
        if let Some(volume) = self.serving.served.volume.blocking_lock().take() {
            volume.lease.release();
        }
        self.runtime.shutdown_background();
        Ok(())
    }
}
