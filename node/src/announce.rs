//! Kubernetes events on pods: where the pod's owner looks.
//!
//! Invariant: an event carries names of objects and a reason, nothing of a file; that it cannot be sent holds nothing up.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use contract::names::CSI_DRIVER;
use tokio::time::timeout;

use crate::decision::Cause;
use crate::record::PodName;
use crate::session::Ended;

/// How long an event may take to be sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that the pod's owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// A PascalCase word.
    pub reason: &'static str,
    /// What was done.
    pub action: &'static str,
    /// For a person.
    pub note: String,
}

/// Where news go.
pub trait Announce: Send + Sync + 'static {
    /// Tells about a pod, without waiting for it to arrive; failures are logged.
    fn tell(&self, pod: &PodName, news: News);
}

/// Events of the group `events.k8s.io`, as warnings.
pub struct KubeEvents {
    recorder: Recorder,
}

impl KubeEvents {
    /// `node` becomes the reporting instance.
    pub fn new(client: Client, node: String) -> Self {
        let reporter = Reporter { controller: CSI_DRIVER.to_owned(), instance: Some(node) };
        Self { recorder: Recorder::new(client, reporter) }
    }
}

impl Announce for KubeEvents {
    fn tell(&self, pod: &PodName, news: News) {
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: news.reason.to_owned(),
            note: Some(news.note),
            action: news.action.to_owned(),
            secondary: None,
        };
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            match timeout(PATIENCE, recorder.publish(&event, &reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "an event could not be sent"),
                Err(_) => tracing::warn!(reason = event.reason, "an event could not be sent in time"),
            }
        });
    }
}

/// What to say of a connection that ended; nothing where it ended as it should.
pub fn ended(ended: &Ended) -> Option<News> {
    let volume = &ended.volume;
    let (reason, note) = match ended.cause {
        Cause::Detached | Cause::Unpublished => return None,
        Cause::ServerLost => (
            "EncryptedVolumeServerLost",
            format!(
                "volume {volume}: its sidecar ended while the volume was in use. Processes get ENOTCONN until the pod is replaced"
            ),
        ),
        Cause::ServerHung => (
            "EncryptedVolumeServerHung",
            format!(
                "volume {volume}: its sidecar has not shown for too long that it serves. It was ended; processes get ENOTCONN until the \
                 pod is replaced, which the operator does by eviction, or you by deleting the pod"
            ),
        ),
        Cause::Unserved => (
            "EncryptedVolumeUnserved",
            format!(
                "volume {volume}: nobody served it for too long, so that waiting processes were released with an error"
            ),
        ),
        Cause::PodOver => (
            "EncryptedVolumeReleased",
            format!(
                "volume {volume}: the pod is ending and nobody serves the volume, so that waiting processes were released"
            ),
        ),
    };
    Some(News { reason, action: "AbortConnection", note })
}

/// Logs and tells about connections that ended.
pub fn tell_ended(announce: &dyn Announce, all: impl IntoIterator<Item = Ended>) {
    for end in all {
        tracing::info!(pod = end.pod.name, namespace = end.pod.namespace, volume = end.volume, cause = ?end.cause, "connection ended");
        if let Some(news) = ended(&end) {
            announce.tell(&end.pod, news);
        }
    }
}
