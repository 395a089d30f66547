//! The gRPC messages of CSI 1.x (`csi.v1`) and of kubelet's plugin registration (`pluginregistration`), as far as the driver
//! reads or writes them, and unary services over them.
//!
//! Invariant: field numbers are those of the published definitions; fields that are not listed are skipped when reading.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A message without fields that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// `csi.v1.GetPluginInfoResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PluginInfo {
    /// The driver's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The driver's version.
    #[prost(string, tag = "2")]
    pub vendor_version: String,
}

/// `google.protobuf.BoolValue`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BoolValue {
    /// The value.
    #[prost(bool, tag = "1")]
    pub value: bool,
}

/// `csi.v1.ProbeResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Probe {
    /// Whether requests are served.
    #[prost(message, optional, tag = "1")]
    pub ready: Option<BoolValue>,
}

/// `csi.v1.NodeGetInfoResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeInfo {
    /// The node's name.
    #[prost(string, tag = "1")]
    pub node_id: String,
}

/// `csi.v1.VolumeCapability`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct VolumeCapability {
    /// Set for raw block volumes.
    #[prost(message, optional, tag = "1")]
    pub block: Option<Empty>,
    /// Set for mounted volumes.
    #[prost(message, optional, tag = "2")]
    pub mount: Option<Empty>,
}

/// `csi.v1.NodePublishVolumeRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodePublish {
    /// Kubelet's id of the volume.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where to mount.
    #[prost(string, tag = "4")]
    pub target_path: String,
    /// Mounted or raw.
    #[prost(message, optional, tag = "5")]
    pub volume_capability: Option<VolumeCapability>,
    /// Mount read-only.
    #[prost(bool, tag = "6")]
    pub readonly: bool,
    /// Attributes of the volume, and kubelet's facts about the pod.
    #[prost(map = "string, string", tag = "8")]
    pub volume_context: HashMap<String, String>,
}

/// `csi.v1.NodeUnpublishVolumeRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeUnpublish {
    /// Kubelet's id of the volume.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it was mounted.
    #[prost(string, tag = "2")]
    pub target_path: String,
}

/// `pluginregistration.PluginInfo`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Registrant {
    /// `CSIPlugin`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// The driver's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The path of the CSI socket, as kubelet sees it.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    /// Versions of CSI.
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

/// `pluginregistration.RegistrationStatus`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RegistrationStatus {
    /// Whether kubelet took the plugin.
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// The methods of one service.
pub trait Methods: Send + Sync + 'static {
    /// The service's full name.
    const NAME: &'static str;

    /// Answers one call; `None` if there is no such method.
    fn call(self: Arc<Self>, method: &str, request: HttpRequest<Body>) -> Option<Answer>;
}

/// An answer on its way.
pub type Answer = BoxFuture<HttpResponse<Body>, Infallible>;

/// Makes a tonic service of [`Methods`].
pub struct Server<M>(Arc<M>);

impl<M> Server<M> {
    /// Serves these methods.
    pub fn new(methods: M) -> Self {
        Self(Arc::new(methods))
    }
}

impl<M> Clone for Server<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Methods> NamedService for Server<M> {
    const NAME: &'static str = M::NAME;
}

impl<M: Methods> Service<HttpRequest<Body>> for Server<M> {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Answer {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        self.0.clone().call(&method, request).unwrap_or_else(|| {
            let status = Status::unimplemented(format!("{} has no method {method} here", M::NAME));
            Box::pin(async move { Ok(status.into_http()) })
        })
    }
}

/// Answers a unary call by `handler`.
pub fn unary<Req, Res, F, Fut>(request: HttpRequest<Body>, handler: F) -> Answer
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
    F: FnOnce(Req) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Res, Status>> + Send + 'static,
{
    Box::pin(async move {
        let mut grpc = Grpc::new(ProstCodec::<Res, Req>::default());
        Ok(grpc.unary(Once(Some(handler)), request).await)
    })
}

/// A handler for exactly one request.
struct Once<F>(Option<F>);

impl<F, Fut, Req, Res> UnaryService<Req> for Once<F>
where
    F: FnOnce(Req) -> Fut,
    Fut: Future<Output = Result<Res, Status>> + Send + 'static,
{
    type Response = Res;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Res>, Status>> + Send>>;

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let Some(handler) = self.0.take() else {
            return Box::pin(async { Err(Status::internal("a handler was called twice")) });
        };
        let answer = handler(request.into_inner());
        Box::pin(async move { answer.await.map(Response::new) })
    }
}
