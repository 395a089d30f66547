//! Making a connection, finding it again after a restart, and removing it.
//!
//! Invariant: publishing twice changes nothing; after a failed publish nothing is mounted; unpublishing what is not there succeeds.

use crate::decision::{Cause, Phase};
use crate::kernel::KernelError;
use crate::mountinfo::topmost;
use crate::record::{Plain, PodName, Record, RecordError, Stage};
use crate::target::Key;

use super::{Ended, Session, Sessions, is_mount_of, new_source};

/// What to mount.
#[derive(Clone, Debug)]
pub struct PlainRequest {
    /// For which pod.
    pub pod: PodName,
    /// Name of the CSI volume.
    pub csi_volume: String,
    /// Name of the protected volume that it stands for.
    pub volume: String,
    /// Mount it read-only.
    pub read_only: bool,
}

/// Why a volume was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It could not be remembered, so it was not done.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Sessions {
    /// Whether the volume is mounted as this driver made it.
    pub fn is_published(&self, key: &Key) -> Result<bool, KernelError> {
        self.is_mounted(key, self.table().get(key))
    }

    fn is_mounted(&self, key: &Key, session: Option<&Session>) -> Result<bool, KernelError> {
        let Some(session) = session else { return Ok(false) };
        let mounted = self.kernel.mounted(&self.target(key))?;
        Ok(mounted.is_some_and(|mount| is_mount_of(&mount, &session.plain)))
    }

    /// Mounts a volume, unless it is mounted already.
    pub fn publish(&self, request: PlainRequest) -> Result<(), PublishError> {
        let key = Key { pod_uid: request.pod.uid.clone(), volume: request.csi_volume.clone() };
        let mut table = self.table();
        if self.is_mounted(&key, table.get(&key))? {
            return Ok(());
        }
        if let Some(mut stray) = table.remove(&key) {
            self.end(&key, &mut stray, Cause::Unpublished)?;
        }
        let target = self.target(&key);
        // What is mounted there without a record is left from a driver that ended between mounting and recording.
        self.kernel.unmount_all(&target)?;
        let source = new_source();
        let connection = self.kernel.mount_fuse(&target, &source, request.read_only)?;
        let plain = Plain {
            volume: request.volume,
            read_only: request.read_only,
            connection: connection.minor,
            source,
            stage: Stage::Unseen,
        };
        let mut session = Session::new(request.pod, plain, Phase::Unseen);
        session.fd = Some(connection.fd);
        if let Err(error) = self.save(&key, &session) {
            self.kernel.unmount_all(&target)?;
            return Err(error.into());
        }
        table.insert(key, session);
        self.count(&table);
        Ok(())
    }

    /// Takes up a recorded volume when the driver starts. Without its mount (the node was restarted) the record is dropped.
    pub fn recover(&self, record: &Record, plain: &Plain) -> Result<(), PublishError> {
        let key = record.key();
        let mounts = self.kernel.mounts()?;
        if !topmost(&mounts, &self.target(&key)).is_some_and(|mount| is_mount_of(mount, plain)) {
            return Ok(self.records.remove(&key)?);
        }
        let phase = match plain.stage {
            Stage::Unseen => Phase::Unseen,
            Stage::Serving => Phase::Adopted,
            Stage::Ended => Phase::Ended,
        };
        let mut session = Session::new(record.pod.clone(), plain.clone(), phase);
        let renewed = if phase == Phase::Unseen { self.renew(&key, &mut session) } else { Ok(()) };
        let mut table = self.table();
        table.insert(key, session);
        self.count(&table);
        renewed
    }

    /// Ends the connection and takes the mount and its directory away, whether or not any of them is there.
    pub fn unpublish(&self, key: &Key) -> Result<Option<Ended>, PublishError> {
        let mut table = self.table();
        let mut ended = None;
        if let Some(session) = table.get_mut(key)
            && session.phase != Phase::Ended
        {
            ended = Some(self.end(key, session, Cause::Unpublished)?);
        }
        let target = self.target(key);
        self.kernel.unmount_all(&target)?;
        self.kernel.remove_directory(&target)?;
        self.records.remove(key)?;
        table.remove(key);
        self.count(&table);
        Ok(ended)
    }
}

impl Session {
    pub(super) fn new(pod: PodName, plain: Plain, phase: Phase) -> Self {
        Self { pod, plain, phase, fd: None, lease: None, silence: None, stuck_since: None, over_since: None }
    }
}
