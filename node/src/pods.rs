//! What the driver asks about pods, and what it reads out of them.
//!
//! Invariant: an API that cannot be asked is an error or `Unknown`, never an absent pod; nothing is ended on what a watch said
//! alone (`confirm`).

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::decision::PodState;
use crate::record::PodName;

/// Where pods are looked up.
#[async_trait]
pub trait PodLookup: Send + Sync + 'static {
    /// Asks the API server; none if it has no pod of that name and uid.
    async fn fetch(&self, pod: &PodName) -> Result<Option<Arc<Pod>>, LookupError>;
    /// What the watch of this node's pods knows.
    fn seen(&self, pod_uid: &str) -> Sighting;
    /// Tells the watch's memory of a pod that was fetched, so that a pod which is newer than the watch does not look deleted.
    fn remember(&self, pod: Arc<Pod>);
    /// Changes whenever the watch has news.
    fn news(&self) -> watch::Receiver<u64>;
}

/// The API server could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("ask the API server for the pod: {0}")]
pub struct LookupError(pub String);

/// What the watch knows of a pod.
#[derive(Clone, Debug)]
pub enum Sighting {
    /// The first list has not come yet.
    NotReady,
    /// It is not among this node's pods.
    Absent,
    /// Its newest known state.
    Present(Arc<Pod>),
}

/// What a sighting means for its connections.
pub fn state(sighting: &Sighting) -> PodState {
    match sighting {
        Sighting::NotReady => PodState::Unknown,
        Sighting::Absent => PodState::Gone,
        Sighting::Present(pod) if is_over(pod) => PodState::Ending,
        Sighting::Present(_) => PodState::Alive,
    }
}

/// Asks the API server itself, because what the watch says may be old.
pub async fn confirm(lookup: &dyn PodLookup, name: &PodName) -> PodState {
    match lookup.fetch(name).await {
        Ok(None) => PodState::Gone,
        Ok(Some(pod)) if is_over(&pod) => PodState::Ending,
        Ok(Some(_)) => PodState::Alive,
        Err(error) => {
            tracing::warn!(%error, pod = name.name, "a pod's end cannot be confirmed now");
            PodState::Unknown
        }
    }
}

/// Whether a pod is being deleted or has finished.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

/// The uid of a pod.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn sighting(pod: serde_json::Value) -> Sighting {
        Sighting::Present(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    #[test]
    fn a_pod_is_over_when_it_is_being_deleted_or_has_finished() {
        assert_eq!(state(&sighting(json!({"metadata": {}}))), PodState::Alive);
        assert_eq!(
            state(&sighting(json!({"metadata": {}, "status": {"phase": "Running"}}))),
            PodState::Alive
        );
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(
                state(&sighting(json!({"metadata": {}, "status": {"phase": phase}}))),
                PodState::Ending
            );
        }
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
        assert_eq!(state(&sighting(deleted)), PodState::Ending);
    }

    #[test]
    fn a_watch_without_its_first_list_says_nothing() {
        assert_eq!(state(&Sighting::NotReady), PodState::Unknown);
        assert_eq!(state(&Sighting::Absent), PodState::Gone);
    }
}
