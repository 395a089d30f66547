//! The FUSE connections of this node: who holds which, and how far each is. Split by what happens to a connection:
//! `publish` makes and removes it, `lease` gives it to a sidecar and takes it back, `survey` watches it; `holders` are the processes behind
//! the leases.
//!
//! Invariant: one lease for a connection at a time; before `Serving` a connection can be replaced, afterwards it is the only one;
//! no abort without proof that the number still means this connection. All methods block on local disk and mount calls only.

mod holders;
mod lease;
mod publish;
mod survey;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use holders::Holders;
pub use lease::{LeaseId, Refused};
pub use publish::{PlainRequest, PublishError};
pub use survey::Observation;

use crate::decision::{Cause, Phase};
use crate::kernel::{FS_TYPE, Kernel, KernelError, is_connected};
use crate::metrics::Metrics;
use crate::mountinfo;
use crate::record::{Kind, Plain, PodName, Record, Records, Stage};
use crate::silence::Silence;
use crate::target::{Key, KubeletRoot};

/// All connections of this node.
pub struct Sessions {
    kernel: Kernel,
    root: KubeletRoot,
    records: Records,
    metrics: Metrics,
    table: Mutex<HashMap<Key, Session>>,
    holders: Holders,
}

/// One connection.
struct Session {
    pod: PodName,
    plain: Plain,
    phase: Phase,
    /// The server's end; none if it was mounted before this driver started, or has ended.
    fd: Option<OwnedFd>,
    lease: Option<LeaseId>,
    /// What is not heard of the lease's holder, if it promised beats.
    silence: Option<Silence>,
    stuck_since: Option<Instant>,
    over_since: Option<Instant>,
}

/// A connection that ended, for whoever tells people.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whose it was.
    pub pod: PodName,
    /// Name of the protected volume.
    pub volume: String,
    /// Why.
    pub cause: Cause,
}

impl Sessions {
    /// An empty table.
    pub fn new(kernel: Kernel, root: KubeletRoot, records: Records, metrics: Metrics) -> Self {
        Self { kernel, root, records, metrics, table: Mutex::default(), holders: Holders::default() }
    }

    /// What the driver asks of the kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Where kubelet keeps its pods.
    pub fn root(&self) -> &KubeletRoot {
        &self.root
    }

    /// What is remembered across restarts.
    pub fn records(&self) -> &Records {
        &self.records
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Session>> {
        // A panic in one request must not end all others: every change to a session is made in one assignment after its I/O.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, key: &Key) -> PathBuf {
        self.root.target(key)
    }

    fn save(&self, key: &Key, session: &Session) -> Result<(), crate::record::RecordError> {
        let kind = Kind::Plain(session.plain.clone());
        self.records.save(&Record { pod: session.pod.clone(), csi_volume: key.volume.clone(), kind })
    }

    /// Whether the connection's number still means this connection, and it can still make somebody wait.
    fn stands(&self, key: &Key, session: &Session) -> Result<bool, KernelError> {
        if let Some(fd) = &session.fd {
            return Ok(is_connected(fd));
        }
        let target = self.target(key);
        let mounts = self.kernel.mounts()?;
        Ok(mounts.iter().any(|mount| mount.target == target && is_mount_of(mount, &session.plain)))
    }

    /// Aborts and remembers it. The session stays, so that the pod sees ENOTCONN and no later server a session.
    fn end(&self, key: &Key, session: &mut Session, cause: Cause) -> Result<Ended, KernelError> {
        if self.stands(key, session)? {
            self.kernel.abort(session.plain.connection)?;
        }
        session.phase = Phase::Ended;
        session.fd = None;
        session.lease = None;
        session.silence = None;
        session.plain.stage = Stage::Ended;
        if let Err(error) = self.save(key, session) {
            // A driver that starts anew finds the mount dead and nobody waiting on it.
            tracing::error!(%error, pod = session.pod.name, "an aborted connection is not recorded");
        }
        self.metrics.aborted(cause);
        Ok(Ended { pod: session.pod.clone(), volume: session.plain.volume.clone(), cause })
    }

    /// Replaces a connection that nobody saw by one on which INIT is still to come.
    fn renew(&self, key: &Key, session: &mut Session) -> Result<(), PublishError> {
        if self.stands(key, session)? {
            self.kernel.abort(session.plain.connection)?;
        }
        session.phase = Phase::Unseen;
        session.fd = None;
        session.lease = None;
        session.silence = None;
        session.stuck_since = None;
        let target = self.target(key);
        self.kernel.unmount_all(&target)?;
        let source = new_source();
        let connection = self.kernel.mount_fuse(&target, &source, session.plain.read_only)?;
        session.plain =
            Plain { connection: connection.minor, source, stage: Stage::Unseen, ..session.plain.clone() };
        session.fd = Some(connection.fd);
        Ok(self.save(key, session)?)
    }
}

fn is_mount_of(mount: &mountinfo::Mount, plain: &Plain) -> bool {
    mount.fs_type == FS_TYPE && mount.minor == plain.connection && mount.source == plain.source
}

/// A name that no other mount has.
fn new_source() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("cofferdam:{}", &id[..12])
}
