//! The watch of this node's pods, and the live look at one of them.
//!
//! Invariant: the memory follows one list-and-watch; a restarted list replaces it as a whole. Events that are lost while the API is
//! away leave old states, never missing pods: nothing is ended on them alone (`pods::confirm`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::pods::{LookupError, PodLookup, Sighting, uid};
use crate::record::PodName;

/// How long a live look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pods by way of the Kubernetes API.
pub struct KubePods {
    client: Client,
    memory: Mutex<Memory>,
    news: watch::Sender<u64>,
}

/// What the watch said. Pure.
#[derive(Default)]
struct Memory {
    pods: HashMap<String, Arc<Pod>>,
    /// Of a list that has not come to its end.
    listing: Option<HashMap<String, Arc<Pod>>>,
    ready: bool,
}

impl KubePods {
    /// Without a running watch yet.
    pub fn new(client: Client) -> Arc<Self> {
        let (news, _) = watch::channel(0);
        Arc::new(Self { client, memory: Mutex::default(), news })
    }

    /// Follows the pods of `node` until the process ends.
    pub async fn run(self: Arc<Self>, node: String) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let ours = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let stream = watcher(pods, ours).default_backoff();
        pin_mut!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    self.memory().apply(event);
                    self.news.send_modify(|count| *count += 1);
                }
                Err(error) => tracing::warn!(%error, "the watch of this node's pods was interrupted"),
            }
        }
    }

    /// Whether the first list has come.
    pub fn is_ready(&self) -> bool {
        self.memory().ready
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PodLookup for KubePods {
    async fn fetch(&self, pod: &PodName) -> Result<Option<Arc<Pod>>, LookupError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let answer = timeout(PATIENCE, api.get_opt(&pod.name)).await;
        let found = answer
            .map_err(|_| LookupError("no answer in time".into()))?
            .map_err(|error| LookupError(error.to_string()))?;
        Ok(found.filter(|found| uid(found) == pod.uid).map(Arc::new))
    }

    fn seen(&self, pod_uid: &str) -> Sighting {
        let memory = self.memory();
        match memory.pods.get(pod_uid) {
            Some(pod) => Sighting::Present(pod.clone()),
            None if memory.ready => Sighting::Absent,
            None => Sighting::NotReady,
        }
    }

    fn remember(&self, pod: Arc<Pod>) {
        self.memory().pods.entry(uid(&pod).to_owned()).or_insert(pod);
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

impl Memory {
    fn apply(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) => keep(&mut self.pods, pod),
            Event::Delete(pod) => drop(self.pods.remove(uid(&pod))),
            Event::Init => self.listing = Some(HashMap::new()),
            Event::InitApply(pod) => keep(self.listing.get_or_insert_default(), pod),
            Event::InitDone => {
                self.pods = self.listing.take().unwrap_or_default();
                self.ready = true;
            }
        }
    }
}

fn keep(pods: &mut HashMap<String, Arc<Pod>>, mut pod: Pod) {
    pod.metadata.managed_fields = None;
    pods.insert(uid(&pod).to_owned(), Arc::new(pod));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod(uid: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": uid}})).unwrap()
    }

    #[test]
    fn a_list_replaces_what_was_known_only_when_it_is_complete() {
        let mut memory = Memory::default();
        memory.apply(Event::Init);
        memory.apply(Event::InitApply(pod("a")));
        assert!(!memory.ready && memory.pods.is_empty());
        memory.apply(Event::InitDone);
        assert!(memory.ready && memory.pods.contains_key("a"));
        memory.apply(Event::Init);
        memory.apply(Event::InitApply(pod("b")));
        assert!(memory.pods.contains_key("a"));
        memory.apply(Event::InitDone);
        assert!(!memory.pods.contains_key("a") && memory.pods.contains_key("b"));
    }

    #[test]
    fn a_deleted_pod_is_forgotten() {
        let mut memory = Memory::default();
        memory.apply(Event::Apply(pod("a")));
        memory.apply(Event::Delete(pod("a")));
        assert!(memory.pods.is_empty());
    }
}
