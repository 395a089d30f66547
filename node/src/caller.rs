//! Whether the process at the other end of a control connection is the pod's sidecar.
//!
//! Invariant: the kernel says which container the process runs in, and the API says which container the sidecar is; nothing
//! that the process says counts. What the API does not know yet is waited for, within a bound.

use std::time::Duration;

use contract::control::Refusal;
use contract::names::SIDECAR_CONTAINER;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use tokio::time::{Instant, timeout_at};

use crate::cgroup::{self, Membership};
use crate::pods::{PodLookup, Sighting};
use crate::record::PodName;
use crate::session::Refused;
use crate::socket::Peer;

/// What a pod's status says of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the sidecar.
    Sidecar,
    /// It is another container of the pod.
    Other,
    /// The status does not have it (yet).
    NotKnown,
}

/// Finds a container in a pod's status.
pub fn standing(pod: &Pod, container_id: &str) -> Standing {
    let Some(status) = &pod.status else { return Standing::NotKnown };
    let init = status.init_container_statuses.iter().flatten();
    let others = status.container_statuses.iter().chain(&status.ephemeral_container_statuses).flatten();
    let is_it = |candidate: &&ContainerStatus| {
        let id = candidate.container_id.as_deref().and_then(|id| id.split_once("://"));
        id.is_some_and(|(_runtime, id)| id == container_id)
    };
    match init.clone().find(is_it) {
        Some(found) if found.name == SIDECAR_CONTAINER => Standing::Sidecar,
        Some(_) => Standing::Other,
        None if others.into_iter().any(|status| is_it(&status)) => Standing::Other,
        None => Standing::NotKnown,
    }
}

/// Proves that `peer` is the sidecar of `pod`.
///
/// The API may take up to `patience` to know a container that has just started.
pub async fn verify(
    peer: &Peer,
    pod: &PodName,
    lookup: &dyn PodLookup,
    patience: Duration,
) -> Result<(), Refused> {
    let file = peer.cgroup().map_err(|error| {
        refused(format!("the caller's cgroup cannot be read ({error}): the node driver needs hostPID"))
    })?;
    let membership = cgroup::membership(&file);
    let Some(Membership { container_id, .. }) = membership.filter(|found| found.pod_uid == pod.uid) else {
        return Err(refused("the caller does not run in a container of this pod".into()));
    };
    wait_until_known(&container_id, pod, lookup, Instant::now() + patience).await
}

/// Follows the watch until the status has the container, and asks the API itself at the end.
async fn wait_until_known(
    container_id: &str,
    pod: &PodName,
    lookup: &dyn PodLookup,
    deadline: Instant,
) -> Result<(), Refused> {
    let mut news = lookup.news();
    loop {
        news.mark_unchanged();
        if let Sighting::Present(found) = lookup.seen(&pod.uid)
            && let Some(answer) = settled(&found, container_id)
        {
            return answer;
        }
        if !matches!(timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
            break;
        }
    }
    match lookup.fetch(pod).await {
        Ok(Some(found)) => settled(&found, container_id)
            .unwrap_or_else(|| Err(refused("the pod's status does not have the caller's container".into()))),
        Ok(None) => Err(refused("the pod does not exist any more".into())),
        Err(error) => Err(Refused::new(Refusal::Unavailable, error.to_string())),
    }
}

fn settled(pod: &Pod, container_id: &str) -> Option<Result<(), Refused>> {
    match standing(pod, container_id) {
        Standing::Sidecar => Some(Ok(())),
        Standing::Other => Some(Err(refused("the caller runs in another container of this pod".into()))),
        Standing::NotKnown => None,
    }
}

fn refused(message: String) -> Refused {
    Refused::new(Refusal::NotTheSidecar, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {}, "status": {
            "initContainerStatuses": [
                {"name": SIDECAR_CONTAINER, "containerID": "containerd://aa", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {"name": "cofferdam-gate", "containerID": "containerd://bb", "image": "", "imageID": "", "ready": true, "restartCount": 0}],
            "containerStatuses": [
                {"name": "app", "containerID": "cri-o://cc", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {"name": SIDECAR_CONTAINER, "containerID": "cri-o://dd", "image": "", "imageID": "", "ready": true, "restartCount": 0}],
            "ephemeralContainerStatuses": [
                {"name": "debug", "containerID": "cri-o://ee", "image": "", "imageID": "", "ready": true, "restartCount": 0}]
        }}))
        .unwrap()
    }

    #[test]
    fn only_the_init_container_of_that_name_is_the_sidecar() {
        assert_eq!(standing(&pod(), "aa"), Standing::Sidecar);
        for other in ["bb", "cc", "dd", "ee"] {
            assert_eq!(standing(&pod(), other), Standing::Other, "{other}");
        }
    }

    #[test]
    fn a_container_that_the_status_does_not_have_is_not_known() {
        assert_eq!(standing(&pod(), "ff"), Standing::NotKnown);
        assert_eq!(standing(&Pod::default(), "aa"), Standing::NotKnown);
        assert_eq!(standing(&pod(), ""), Standing::NotKnown);
    }
}
