//! The HTTPS servers of the operator, with bounds: anybody in the cluster can reach them, and nobody shall be able to fill them.
//!
//! Invariant: a connection that says nothing, or says it slowly, ends; one peer never has all the places; what a request may
//! take (time, bytes) is fixed before it is read. Handlers can have the peer's address (`ConnectInfo<SocketAddr>`).

mod doors;
mod guarded;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{AddExtension, Next, from_fn};
use axum::response::IntoResponse;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use doors::Doors;
pub use doors::owner;
use guarded::Guarded;

/// What a server bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. A sidecar keeps one.
    pub connections: usize,
    /// Connections at once of one address.
    pub of_one_peer: usize,
    /// Requests at once in one connection.
    pub streams: u32,
    /// How long a TLS handshake, the first bytes and the headers of a request may take, each.
    pub header: Duration,
    /// How long a connection may say nothing. Sidecars check in every 36 s at least, API servers ask every 30 s whether we live.
    pub idle: Duration,
    /// How long a request may take, its body included.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            of_one_peer: 256,
            streams: 64,
            header: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            request: Duration::from_secs(20),
        }
    }
}

/// What answers one connection: the routes, and who its peer is.
type Answering = AddExtension<Router, ConnectInfo<SocketAddr>>;

/// Serves until `handle` is told to stop; the certificate is the one that `tls` holds at each handshake.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    tls: RustlsConfig,
    handle: Handle<SocketAddr>,
    limits: Limits,
) -> io::Result<()> {
    let tls = RustlsAcceptor::new(tls).handshake_timeout(limits.header);
    serve_over(tls, address, router, handle, limits).await
}

async fn serve_over<A>(
    inner: A,
    address: SocketAddr,
    router: Router,
    handle: Handle<SocketAddr>,
    limits: Limits,
) -> io::Result<()>
where
    A: Accept<TcpStream, Answering, Service = Answering> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A::Future: Send + 'static,
{
    let front = Front { inner, doors: Doors::new(limits.connections, limits.of_one_peer), limits };
    let mut server = axum_server::bind(address).acceptor(front).handle(handle);
    let http = server.http_builder();
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.header);
    http.http2().timer(TokioTimer::new()).max_concurrent_streams(limits.streams);
    let router = in_time(router, limits.request);
    server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Ends a request that takes too long: its body may never come.
fn in_time(router: Router, longest: Duration) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| async move {
        let answer = tokio::time::timeout(longest, next.run(request)).await;
        answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
    }))
}

/// Lets connections in while there is a place.
#[derive(Clone)]
struct Front<A> {
    inner: A,
    doors: Arc<Doors>,
    limits: Limits,
}

type Accepting<T, S> = Pin<Box<dyn Future<Output = io::Result<(Guarded<T>, S)>> + Send>>;

impl<A, S> Accept<TcpStream, S> for Front<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: 'static,
{
    type Stream = Guarded<A::Stream>;
    type Service = A::Service;
    type Future = Accepting<A::Stream, A::Service>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // The place is held from before the handshake until the connection ends.
        let place = stream.peer_addr().and_then(|peer| {
            let full = || io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections");
            self.doors.enter(peer.ip()).ok_or_else(full)
        });
        let (accepting, limits) = (self.inner.accept(stream, service), self.limits);
        Box::pin(async move {
            let place = place?;
            let (stream, service) = accepting.await?;
            Ok((Guarded::new(stream, place, limits.header, limits.idle), service))
        })
    }
}

#[cfg(test)]
mod tests;
