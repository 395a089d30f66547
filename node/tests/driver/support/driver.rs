//! A driver as `main` puts it together, in a runtime that can be taken away as a killed process would be.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use node::control::Control;
use node::csi::{Driver, Identity, Node, Settings};
use node::deadline::Watchdog;
use node::decision::Deadlines;
use node::grpc::{Empty, Methods as _, NodePublish, NodeUnpublish, VolumeCapability};
use node::injected::Expected;
use node::kernel::Kernel;
use node::metrics::Metrics;
use node::record::Records;
use node::registration;
use node::session::Sessions;
use node::target::KubeletRoot;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::api::{FakeApi, IMAGE, NODE};

/// Where kubelet would keep its pods; outlives a driver.
pub struct Kubelet {
    dir: tempfile::TempDir,
}

/// A running driver.
pub struct Running {
    pub metrics: Metrics,
    runtime: Runtime,
    socket: PathBuf,
}

/// Long enough that no test meets them by chance.
pub const PATIENT: Deadlines = Deadlines { unserved: Duration::from_mins(10), over: Duration::from_mins(10) };

impl Kubelet {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        // The stand-in sidecar is not root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The target of a volume; makes its parent, as kubelet does.
    pub fn target(&self, uid: &str, volume: &str) -> PathBuf {
        let parent = self.root().join("pods").join(uid).join("volumes/kubernetes.io~csi").join(volume);
        fs::create_dir_all(&parent).unwrap();
        parent.join("mount")
    }

    pub fn driver_dir(&self) -> PathBuf {
        self.root().join("plugins/node.cofferdam.io")
    }

    /// Starts a driver over what an earlier one may have left.
    pub fn start(&self, api: &Arc<FakeApi>, deadlines: Deadlines) -> Running {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let inside = runtime.enter();
        let metrics = Metrics::default();
        let kernel = Kernel::new("/sys/fs/fuse/connections".into()).unwrap();
        let records = Records::open(self.driver_dir().join("state")).unwrap();
        let root = KubeletRoot::new(self.root().into(), fs::canonicalize(self.root()).unwrap());
        let sessions = Arc::new(Sessions::new(kernel, root, records, metrics.clone()));
        let ctl = self.driver_dir().join("ctl");
        let control = Control::new(
            sessions.clone(),
            api.clone(),
            api.clone(),
            metrics.clone(),
            ctl,
            Duration::from_secs(2),
        );
        let expected = Expected { images: vec![IMAGE.into()], node: NODE.into() };
        let settings = Settings { expected, run_bytes: 1 << 20 };
        let driver = Driver::new(
            settings,
            sessions.clone(),
            control.unwrap(),
            api.clone(),
            api.clone(),
            metrics.clone(),
        );
        let driver = Arc::new(driver);
        driver.recover().unwrap();
        let rounds = Arc::new(AtomicU64::new(0));
        let watchdog = Watchdog { sessions, pods: api.clone(), announce: api.clone(), deadlines, rounds };
        runtime.spawn(watchdog.run());
        let socket = self.driver_dir().join("csi.sock");
        runtime.spawn(registration::serve_csi(registration::listen(&socket).unwrap(), driver));
        drop(inside);
        Running { metrics, runtime, socket }
    }
}

impl Running {
    /// Ends it as SIGKILL would: its descriptors close, and nothing else is done.
    pub fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    /// One call over the socket.
    pub fn call<Req, Res>(&self, path: &'static str, request: Req) -> Result<Res, Status>
    where
        Req: Message + Default + 'static,
        Res: Message + Default + 'static,
    {
        call(&self.runtime, &self.socket, path, request)
    }

    pub fn identity<Res: Message + Default + 'static>(&self, method: &str) -> Result<Res, Status> {
        self.call(leak(format!("/{}/{method}", Identity::NAME)), Empty {})
    }

    pub fn node<Res: Message + Default + 'static>(&self, method: &str) -> Result<Res, Status> {
        self.call(leak(format!("/{}/{method}", Node::NAME)), Empty {})
    }

    pub fn publish(&self, request: NodePublish) -> Result<(), Status> {
        self.call("/csi.v1.Node/NodePublishVolume", request).map(|_: Empty| ())
    }

    pub fn unpublish(&self, target: &Path) -> Result<(), Status> {
        let request =
            NodeUnpublish { volume_id: "csi-1".into(), target_path: target.to_str().unwrap().into() };
        self.call("/csi.v1.Node/NodeUnpublishVolume", request).map(|_: Empty| ())
    }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// One unary call.
pub fn call<Req, Res>(
    runtime: &Runtime,
    socket: &Path,
    path: &'static str,
    request: Req,
) -> Result<Res, Status>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
{
    runtime.block_on(async {
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display())).unwrap();
        let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
        client.ready().await.unwrap();
        let codec = ProstCodec::<Req, Res>::default();
        let answer = client.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner)
    })
}

/// What kubelet asks for a volume of an injected pod.
pub fn request(uid: &str, target: &Path, attributes: &[(&str, &str)]) -> NodePublish {
    let mut context: HashMap<String, String> =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in
        [("pod.name", "db-0"), ("pod.namespace", "shop"), ("pod.uid", uid), ("ephemeral", "true")]
    {
        context.insert(format!("csi.storage.k8s.io/{name}"), value.to_owned());
    }
    NodePublish {
        volume_id: "csi-1".into(),
        target_path: target.to_str().unwrap().into(),
        volume_capability: Some(VolumeCapability { block: None, mount: Some(Empty {}) }),
        readonly: false,
        volume_context: context,
    }
}

/// The same for the volume `data`.
pub fn plain(uid: &str, target: &Path) -> NodePublish {
    request(uid, target, &[("cofferdam.io/kind", "plain"), ("cofferdam.io/volume", "data")])
}

/// The same for the socket.
pub fn ctl(uid: &str, target: &Path) -> NodePublish {
    request(uid, target, &[("cofferdam.io/kind", "ctl")])
}
