//! A stand-in for the API server, and the pods in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use contract::names::{ATTRIBUTE_KIND, ATTRIBUTE_VOLUME, CSI_DRIVER, GATE_CONTAINER, SIDECAR_CONTAINER};
use k8s_openapi::api::core::v1::Pod;
use node::announce::{Announce, News};
use node::pods::{LookupError, PodLookup, Sighting};
use node::record::PodName;
use serde_json::{Value, json};
use tokio::sync::watch;

pub const IMAGE: &str = "registry.example/cofferdam:test";
pub const NODE: &str = "node1";

/// Pods that a test sets, an API that it can take away, and what the driver told.
pub struct FakeApi {
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    down: AtomicBool,
    news: watch::Sender<u64>,
    told: Mutex<Vec<(PodName, News)>>,
}

impl FakeApi {
    pub fn new() -> Arc<Self> {
        let (news, _) = watch::channel(0);
        Arc::new(Self { pods: Mutex::default(), down: AtomicBool::new(false), news, told: Mutex::default() })
    }

    pub fn set(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods.lock().unwrap().insert(pod.metadata.uid.clone().unwrap(), Arc::new(pod));
        self.news.send_modify(|count| *count += 1);
    }

    pub fn delete(&self, uid: &str) {
        self.pods.lock().unwrap().remove(uid);
        self.news.send_modify(|count| *count += 1);
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Reasons of all events so far.
    pub fn reasons(&self) -> Vec<&'static str> {
        self.told.lock().unwrap().iter().map(|(_, news)| news.reason).collect()
    }
}

#[async_trait]
impl PodLookup for FakeApi {
    async fn fetch(&self, pod: &PodName) -> Result<Option<Arc<Pod>>, LookupError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(LookupError("it is down".into()));
        }
        Ok(self.pods.lock().unwrap().get(&pod.uid).cloned())
    }

    fn seen(&self, pod_uid: &str) -> Sighting {
        self.pods.lock().unwrap().get(pod_uid).cloned().map_or(Sighting::Absent, Sighting::Present)
    }

    fn remember(&self, _: Arc<Pod>) {}

    fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

impl Announce for FakeApi {
    fn tell(&self, pod: &PodName, news: News) {
        self.told.lock().unwrap().push((pod.clone(), news));
    }
}

/// A pod as the webhook leaves it.
pub fn injected(uid: &str) -> Value {
    let user = json!({"runAsUser": 65532, "runAsGroup": 65532});
    let volume = |name: &str, attributes: Value| json!({"name": name, "csi": {"driver": CSI_DRIVER, "volumeAttributes": attributes}});
    json!({
        "metadata": {"uid": uid, "name": "db-0", "namespace": "shop"},
        "spec": {
            "nodeName": NODE,
            "volumes": [
                volume("cofferdam-vol-data", json!({ATTRIBUTE_KIND: "plain", ATTRIBUTE_VOLUME: "data"})),
                volume("cofferdam-sys-ctl", json!({ATTRIBUTE_KIND: "ctl"})),
                volume("cofferdam-sys-run", json!({ATTRIBUTE_KIND: "run"}))
            ],
            "initContainers": [
                {"name": SIDECAR_CONTAINER, "image": IMAGE, "restartPolicy": "Always", "securityContext": user},
                {"name": GATE_CONTAINER, "image": IMAGE, "securityContext": user}
            ],
            "containers": [{"name": "app", "image": "app"}]
        }
    })
}

/// The same, and its containers run: each has the id that is given.
pub fn running(uid: &str, sidecar: &str, app: &str) -> Value {
    let status = |name: &str, id: &str| json!({"name": name, "containerID": format!("containerd://{id}"), "image": "", "imageID": "", "ready": true, "restartCount": 0});
    let mut pod = injected(uid);
    pod["status"] = json!({
        "phase": "Running",
        "initContainerStatuses": [status(SIDECAR_CONTAINER, sidecar)],
        "containerStatuses": [status("app", app)]
    });
    pod
}
