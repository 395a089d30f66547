//! NodePublishVolume and NodeUnpublishVolume.
//!
//! Invariant: who the pod is comes from kubelet's target path and its pod facts, which must agree, and is confirmed by the API
//! server before anything is mounted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::names::{ATTRIBUTE_KIND, ATTRIBUTE_VOLUME, CTL_VOLUME, KIND_CTL, KIND_PLAIN, KIND_RUN};
use tonic::{Code, Status};

use crate::announce::{Announce, News, tell_ended};
use crate::control::Control;
use crate::grpc::{NodePublish, NodeUnpublish};
use crate::injected::{self, Expected, Identity, NotInjected};
use crate::kernel::Tmpfs;
use crate::metrics::Metrics;
use crate::pods::PodLookup;
use crate::record::{Kind, PodName, Record, RecordError};
use crate::session::{PlainRequest, Sessions};
use crate::target::{Key, is_label};

/// Facts about the pod, which kubelet adds where the CSIDriver object says `podInfoOnMount`.
const POD_NAME: &str = "csi.storage.k8s.io/pod.name";
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const POD_UID: &str = "csi.storage.k8s.io/pod.uid";
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// What the driver was told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a pod must be to be served.
    pub expected: Expected,
    /// Most bytes on a pod's tmpfs.
    pub run_bytes: u64,
}

/// Publishes and unpublishes.
pub struct Driver {
    settings: Settings,
    sessions: Arc<Sessions>,
    control: Control,
    pods: Arc<dyn PodLookup>,
    announce: Arc<dyn Announce>,
    metrics: Metrics,
}

/// A request that was understood.
#[derive(Clone, Debug)]
struct Publish {
    key: Key,
    pod: PodName,
    what: What,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Plain { volume: String },
    Ctl,
    Run,
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::Plain { .. } => KIND_PLAIN,
            Self::Ctl => KIND_CTL,
            Self::Run => KIND_RUN,
        }
    }

    fn volume(&self) -> Option<&str> {
        if let Self::Plain { volume } = self { Some(volume) } else { None }
    }
}

impl Driver {
    /// Over what was recovered.
    pub fn new(
        settings: Settings,
        sessions: Arc<Sessions>,
        control: Control,
        pods: Arc<dyn PodLookup>,
        announce: Arc<dyn Announce>,
        metrics: Metrics,
    ) -> Self {
        Self { settings, sessions, control, pods, announce, metrics }
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.settings.expected.node
    }

    /// Takes up everything that was published before the driver started. Must be called within a runtime, before any request.
    pub fn recover(&self) -> Result<(), RecordError> {
        for record in self.sessions.records().load()? {
            let (pod, volume) = (record.pod.name.clone(), record.csi_volume.clone());
            let result = match &record.kind {
                Kind::Plain(plain) => {
                    self.sessions.recover(&record, plain).map_err(|error| error.to_string())
                }
                Kind::Ctl => self.recover_ctl(&record),
            };
            match result {
                Ok(()) => tracing::info!(pod, volume, "taken up again"),
                Err(error) => tracing::error!(pod, volume, error, "not taken up again"),
            }
        }
        Ok(())
    }

    fn recover_ctl(&self, record: &Record) -> Result<(), String> {
        let key = record.key();
        let mounted = self.sessions.kernel().mounted(&self.sessions.root().target(&key));
        if mounted.map_err(|error| error.to_string())?.is_some() {
            return self.control.listen(&record.pod).map(drop).map_err(|error| error.to_string());
        }
        self.control.stop(&key.pod_uid).map_err(|error| error.to_string())?;
        self.sessions.records().remove(&key).map_err(|error| error.to_string())
    }

    /// NodePublishVolume.
    pub async fn publish(self: Arc<Self>, request: NodePublish) -> Result<(), Status> {
        let result = match self.understand(&request) {
            Ok(publish) => self.clone().publish_understood(publish).await,
            Err(status) => Err(status),
        };
        self.log("publish", &request.volume_id, &result);
        result
    }

    async fn publish_understood(self: Arc<Self>, publish: Publish) -> Result<(), Status> {
        let (this, wanted) = (self.clone(), publish.clone());
        if blocking(move || this.is_published(&wanted)).await? {
            return Ok(());
        }
        let identity = self.prove(&publish).await?;
        let handle = tokio::runtime::Handle::current();
        // Kubelet may give up while this runs; it is carried out to its end all the same.
        blocking(move || {
            let _runtime = handle.enter();
            self.mount(&publish, identity)
        })
        .await
    }

    fn understand(&self, request: &NodePublish) -> Result<Publish, Status> {
        let wrong = |message: String| Status::invalid_argument(message);
        if request.volume_id.is_empty() || request.target_path.is_empty() {
            return Err(wrong("volume_id and target_path are required".into()));
        }
        if request.volume_capability.is_none_or(|capability| capability.mount.is_none()) {
            return Err(wrong("only mounted volumes are served, no block volumes".into()));
        }
        let key = self
            .sessions
            .root()
            .key(Path::new(&request.target_path))
            .map_err(|error| wrong(error.to_string()))?;
        let context = |name: &str| request.volume_context.get(name).map(String::as_str).unwrap_or_default();
        if context(EPHEMERAL) != "true" {
            return Err(wrong("only inline (ephemeral) volumes are served".into()));
        }
        let (name, namespace, uid) = (context(POD_NAME), context(POD_NAMESPACE), context(POD_UID));
        if name.is_empty() || namespace.is_empty() || uid.is_empty() {
            return Err(wrong("the pod is not named: the CSIDriver object needs podInfoOnMount".into()));
        }
        if uid != key.pod_uid {
            return Err(wrong("the target path is another pod's".into()));
        }
        let what = match context(ATTRIBUTE_KIND) {
            KIND_PLAIN if is_label(context(ATTRIBUTE_VOLUME)) => {
                What::Plain { volume: context(ATTRIBUTE_VOLUME).into() }
            }
            KIND_PLAIN => {
                return Err(wrong(format!("the attribute {ATTRIBUTE_VOLUME} does not name a volume")));
            }
            KIND_CTL if key.volume == CTL_VOLUME => What::Ctl,
            KIND_CTL => {
                return Err(wrong(format!("the volume with the driver's socket must be named {CTL_VOLUME}")));
            }
            KIND_RUN => What::Run,
            _ => {
                return Err(wrong(format!(
                    "the attribute {ATTRIBUTE_KIND} is none of {KIND_PLAIN}, {KIND_CTL}, {KIND_RUN}"
                )));
            }
        };
        let pod = PodName { namespace: namespace.into(), name: name.into(), uid: uid.into() };
        Ok(Publish { key, pod, what, read_only: request.readonly })
    }

    /// Whether there is nothing to do; asked before the API is, so that a restarted kubelet needs no API server.
    fn is_published(&self, publish: &Publish) -> Result<bool, Status> {
        if let What::Plain { .. } = publish.what {
            return self.sessions.is_published(&publish.key).map_err(internal);
        }
        let mounted = self.sessions.kernel().mounted(&self.target(&publish.key)).map_err(internal)?;
        match publish.what {
            What::Run => Ok(mounted.is_some_and(|mount| mount.fs_type == "tmpfs")),
            // Binding it again is no harm, and makes sure that somebody listens.
            _ => Ok(mounted.is_some() && self.control.is_listening(&publish.pod)),
        }
    }

    async fn prove(&self, publish: &Publish) -> Result<Identity, Status> {
        let found =
            self.pods.fetch(&publish.pod).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let pod = found.ok_or_else(|| Status::not_found("the API server has no such pod"))?;
        self.pods.remember(pod.clone());
        let what = &publish.what;
        let proof =
            injected::check(&pod, &self.settings.expected, &publish.key.volume, what.kind(), what.volume());
        proof.map_err(|refusal| {
            self.tell_refused(publish, &refusal);
            Status::failed_precondition(refusal.to_string())
        })
    }

    fn tell_refused(&self, publish: &Publish, refusal: &NotInjected) {
        let note = format!("volume {}: {refusal}", publish.key.volume);
        self.announce.tell(&publish.pod, News { reason: "EncryptedVolumeRefused", action: "Publish", note });
    }

    fn mount(&self, publish: &Publish, identity: Identity) -> Result<(), Status> {
        let target = self.target(&publish.key);
        let result = match &publish.what {
            What::Plain { volume } => {
                let request = PlainRequest {
                    pod: publish.pod.clone(),
                    csi_volume: publish.key.volume.clone(),
                    volume: volume.clone(),
                    read_only: publish.read_only,
                };
                self.sessions.publish(request).map_err(internal)
            }
            What::Ctl => self.mount_ctl(publish, &target),
            What::Run => self.mount_run(&target, identity),
        };
        if result.is_err() && publish.what.volume().is_none() {
            // Kubelet looks at the target after a final error; nothing must be in its way.
            let _ = self.sessions.kernel().unmount_all(&target);
        }
        result
    }

    fn mount_ctl(&self, publish: &Publish, target: &Path) -> Result<(), Status> {
        let record =
            Record { pod: publish.pod.clone(), csi_volume: publish.key.volume.clone(), kind: Kind::Ctl };
        self.sessions.records().save(&record).map_err(internal)?;
        let dir = self.control.listen(&publish.pod).map_err(internal)?;
        self.sessions.kernel().unmount_all(target).map_err(internal)?;
        self.sessions.kernel().bind_read_only(&dir, target).map_err(internal)
    }

    fn mount_run(&self, target: &Path, identity: Identity) -> Result<(), Status> {
        let tmpfs = Tmpfs { bytes: self.settings.run_bytes, uid: identity.uid, gid: identity.gid };
        self.sessions.kernel().mount_tmpfs(target, tmpfs).map_err(internal)
    }

    /// NodeUnpublishVolume.
    pub async fn unpublish(self: Arc<Self>, request: NodeUnpublish) -> Result<(), Status> {
        let (this, wanted) = (self.clone(), request.clone());
        let result = if request.volume_id.is_empty() || request.target_path.is_empty() {
            Err(Status::invalid_argument("volume_id and target_path are required"))
        } else {
            blocking(move || this.unpublish_target(&wanted.target_path)).await
        };
        self.log("unpublish", &request.volume_id, &result);
        result
    }

    fn unpublish_target(&self, target: &str) -> Result<(), Status> {
        let Ok(key) = self.sessions.root().key(Path::new(target)) else {
            tracing::warn!("a path that this driver never mounts at needs no unpublishing");
            return Ok(());
        };
        let ended = self.sessions.unpublish(&key).map_err(internal)?;
        if key.volume == CTL_VOLUME {
            self.control.stop(&key.pod_uid).map_err(internal)?;
        }
        tell_ended(&*self.announce, ended);
        Ok(())
    }

    fn target(&self, key: &Key) -> PathBuf {
        self.sessions.root().target(key)
    }

    fn log(&self, operation: &'static str, volume_id: &str, result: &Result<(), Status>) {
        let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
        self.metrics.csi(operation, code);
        match result {
            Ok(()) => tracing::info!(operation, volume_id, "done"),
            Err(status) => {
                tracing::warn!(operation, volume_id, ?code, message = status.message(), "not done");
            }
        }
    }
}

/// Runs what waits for the local disk or the mount table where it holds up nobody.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|error| Status::internal(format!("the request was cut short: {error}")))?
}

/// An error with its causes: kubelet shows one line.
fn internal(error: impl std::error::Error) -> Status {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Status::internal(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kernel::KernelError;

    #[test]
    fn an_error_is_shown_with_its_causes() {
        let error = KernelError::Mount(std::io::Error::from_raw_os_error(1));
        assert!(internal(error).message().starts_with("mount at the target: Operation not permitted"));
    }
}
