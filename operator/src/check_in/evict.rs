//! A pod whose FUSE session is lost serves errors for ever: it is evicted, so that its controller makes another.
//!
//! Invariant: the Eviction API only, so that disruption budgets hold; one task for a pod, and its condition says it before.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::server::CheckIns;

/// How long a person may read the condition before the pod goes.
const NOTICE: Duration = Duration::from_secs(10);
/// Between two tries while a disruption budget forbids it.
const RETRY: Duration = Duration::from_secs(10);
/// Tries of one task: an hour. The next check-in begins another.
const TRIES: usize = 360;

/// Pods, by uid, that a task is evicting.
pub struct Evictions {
    running: Mutex<HashSet<String>>,
    notice: Duration,
    retry: Duration,
}

impl Default for Evictions {
    fn default() -> Self {
        Self { running: Mutex::default(), notice: NOTICE, retry: RETRY }
    }
}

impl Evictions {
    /// Waits less, for tests.
    #[cfg(test)]
    pub fn hurry(&mut self, wait: Duration) {
        (self.notice, self.retry) = (wait, wait);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of one try.
enum Attempt {
    Done,
    Gone,
    Forbidden(String),
}

impl CheckIns {
    /// Begins to evict a pod, unless it is under way.
    pub(super) fn evict(self: &Arc<Self>, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() || !self.evictions.lock().insert(uid.clone()) {
            return;
        }
        let (check_ins, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            tokio::time::sleep(check_ins.evictions.notice).await;
            check_ins.evict_until_gone(&pod).await;
            check_ins.evictions.lock().remove(&uid);
        });
    }

    async fn evict_until_gone(&self, pod: &Pod) {
        let about = pod.object_ref(&());
        let mut said = false;
        for _ in 0..TRIES {
            match self.try_evict(pod).await {
                Ok(Attempt::Done) => {
                    self.metrics.eviction();
                    let note = "evicted: its session with an encrypted volume is lost, and only a new pod can have one";
                    return self.events.warning(&about, "SessionLostEvicted", note).await;
                }
                Ok(Attempt::Gone) => return,
                Ok(Attempt::Forbidden(why)) if !said => {
                    said = true;
                    let note = format!("its session is lost, and it cannot be evicted yet: {why}");
                    self.events.warning(&about, "EvictionDelayed", &note).await;
                }
                Ok(Attempt::Forbidden(_)) => {}
                Err(error) => tracing::warn!(%error, pod = pod.name_any(), "could not evict"),
            }
            tokio::time::sleep(self.evictions.retry).await;
        }
    }

    async fn try_evict(&self, pod: &Pod) -> Result<Attempt, kube::Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        // Another pod of the same name is none of ours. Not `Api::evict`: it spells `deleteOptions` in a way that the API
        // server does not read, and the precondition would be lost.
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name_any(), "namespace": pod.namespace()},
            "deleteOptions": {"preconditions": {"uid": pod.metadata.uid}},
        });
        let (name, parameters) = (pod.name_any(), PostParams::default());
        match api.create_subresource::<_, Value>("eviction", &name, &parameters, &body).await {
            Ok(_) => Ok(Attempt::Done),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(Attempt::Gone)
            }
            Err(kube::Error::Api(status)) if status.code == 429 => {
                Ok(Attempt::Forbidden(status.message.clone()))
            }
            Err(error) => Err(error),
        }
    }
}
