//! The CSI services Identity and Node (container-storage-interface specification 1.x), for inline volumes of three kinds.
//!
//! Invariant: publishing is idempotent and leaves nothing mounted when it fails, because kubelet looks at the target after a
//! final error; unpublishing succeeds for everything that is not there, and waits for nobody.

mod node;

use std::sync::Arc;

use tonic::body::Body;
use tonic::codegen::http::Request as HttpRequest;

use crate::grpc::{Answer, BoolValue, Empty, Methods, NodeInfo, PluginInfo, Probe, unary};

pub use node::{Driver, Settings};

/// `csi.v1.Identity`.
pub struct Identity;

/// `csi.v1.Node`.
pub struct Node(pub Arc<Driver>);

impl Methods for Identity {
    const NAME: &'static str = "csi.v1.Identity";

    fn call(self: Arc<Self>, method: &str, request: HttpRequest<Body>) -> Option<Answer> {
        Some(match method {
            "GetPluginInfo" => unary(request, async |_: Empty| Ok(plugin_info())),
            "GetPluginCapabilities" => unary(request, async |_: Empty| Ok(Empty {})),
            "Probe" => unary(request, async |_: Empty| Ok(Probe { ready: Some(BoolValue { value: true }) })),
            _ => return None,
        })
    }
}

impl Methods for Node {
    const NAME: &'static str = "csi.v1.Node";

    fn call(self: Arc<Self>, method: &str, request: HttpRequest<Body>) -> Option<Answer> {
        let driver = self.0.clone();
        Some(match method {
            "NodeGetInfo" => {
                unary(request, async move |_: Empty| Ok(NodeInfo { node_id: driver.node().to_owned() }))
            }
            // None: no staging, and no statistics, for which kubelet would look at the mount.
            "NodeGetCapabilities" => unary(request, async |_: Empty| Ok(Empty {})),
            "NodePublishVolume" => {
                unary(request, async move |publish| driver.publish(publish).await.map(|()| Empty {}))
            }
            "NodeUnpublishVolume" => {
                unary(request, async move |unpublish| driver.unpublish(unpublish).await.map(|()| Empty {}))
            }
            _ => return None,
        })
    }
}

fn plugin_info() -> PluginInfo {
    PluginInfo { name: contract::names::CSI_DRIVER.into(), vendor_version: env!("CARGO_PKG_VERSION").into() }
}
