//! The command line and environment of `cofferdam-node`.
//!
//! Invariant: what has no safe default is required.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::decision::Deadlines;

/// The CSI node driver of Cofferdam.
#[derive(Clone, Debug, Parser)]
#[command(name = "cofferdam-node", version)]
pub struct Options {
    /// Name of this node.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Images that an injected sidecar and gate may have, exactly as in the pod; during an upgrade the old and the new one.
    #[arg(long = "image", env = "COFFERDAM_IMAGES", value_delimiter = ',', required = true)]
    pub images: Vec<String>,
    /// Kubelet's `--root-dir`; mounted into this container at the same path.
    #[arg(long, env = "KUBELET_ROOT", default_value = "/var/lib/kubelet")]
    pub kubelet_root: PathBuf,
    /// Where fusectl is mounted, or to be mounted.
    #[arg(long, default_value = "/sys/fs/fuse/connections")]
    pub fusectl: PathBuf,
    /// Most bytes on the tmpfs of one pod.
    #[arg(long, env = "COFFERDAM_RUN_BYTES", default_value_t = 16 << 20)]
    pub run_bytes: u64,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, env = "COFFERDAM_METRICS_ADDRESS", default_value = "0.0.0.0:9809")]
    pub metrics_address: SocketAddr,
    /// Seconds that a process may wait on a connection that nobody serves, and that a sidecar may be without a beat.
    #[arg(long, default_value_t = 60)]
    pub unserved_seconds: u64,
    /// The same, once the pod is ending or gone.
    #[arg(long, default_value_t = 5)]
    pub over_seconds: u64,
}

impl Options {
    /// How long to wait.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines {
            unserved: Duration::from_secs(self.unserved_seconds),
            over: Duration::from_secs(self.over_seconds),
        }
    }
}
