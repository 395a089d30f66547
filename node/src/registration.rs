//! Registration with kubelet's plugin watcher (`pluginregistration.v1`): a socket in `plugins_registry` that says where the
//! CSI socket is.
//!
//! Invariant: the driver is ready only after kubelet said that it took it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::names::CSI_DRIVER;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::http::Request as HttpRequest;
use tonic::transport::Server as Transport;

use crate::csi::{Driver, Identity, Node};
use crate::grpc::{Answer, Empty, Methods, Registrant, RegistrationStatus, Server, unary};

/// Name of the socket for kubelet's plugin watcher. Kubelet sends the socket's path, percent-encoded, as HTTP/2 authority, and
/// a host name may hold no percent sign: behind an `@` the path becomes the authority's user part, where it may.
pub const REGISTRATION_SOCKET: &str = "cofferdam@node.cofferdam.io";

/// What kubelet said of the registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Nothing yet.
    NotYet,
    /// It took the driver.
    Yes,
    /// It refused.
    Refused(String),
}

/// `pluginregistration.Registration`.
pub struct Registration {
    /// The CSI socket as kubelet sees it.
    pub endpoint: PathBuf,
    /// Where the result goes.
    pub result: watch::Sender<Registered>,
}

impl Methods for Registration {
    const NAME: &'static str = "pluginregistration.Registration";

    fn call(self: Arc<Self>, method: &str, request: HttpRequest<Body>) -> Option<Answer> {
        Some(match method {
            "GetInfo" => unary(request, async move |_: Empty| Ok(self.registrant())),
            "NotifyRegistrationStatus" => unary(request, async move |status: RegistrationStatus| {
                self.note(status);
                Ok(Empty {})
            }),
            _ => return None,
        })
    }
}

impl Registration {
    fn registrant(&self) -> Registrant {
        Registrant {
            r#type: "CSIPlugin".into(),
            name: CSI_DRIVER.into(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".into()],
        }
    }

    fn note(&self, status: RegistrationStatus) {
        let result = if status.plugin_registered {
            tracing::info!("kubelet registered the driver");
            Registered::Yes
        } else {
            tracing::error!(error = status.error, "kubelet refused the driver");
            Registered::Refused(status.error)
        };
        self.result.send_replace(result);
    }
}

/// Makes a socket anew: kubelet learns of a restarted driver by the socket's coming into being.
pub fn listen(path: &Path) -> io::Result<UnixListenerStream> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(UnixListenerStream::new(UnixListener::bind(path)?))
}

/// Serves CSI until the process ends.
pub async fn serve_csi(
    incoming: UnixListenerStream,
    driver: Arc<Driver>,
) -> Result<(), tonic::transport::Error> {
    let services =
        Transport::builder().add_service(Server::new(Identity)).add_service(Server::new(Node(driver)));
    services.serve_with_incoming(incoming).await
}

/// Serves kubelet's plugin watcher until the process ends.
pub async fn serve_registration(
    incoming: UnixListenerStream,
    registration: Registration,
) -> Result<(), tonic::transport::Error> {
    Transport::builder().add_service(Server::new(registration)).serve_with_incoming(incoming).await
}
