//! Connections that can be cut from inside a request. Invariant: a cut connection ends with a TCP reset, never with a tidy close.

use std::future::Ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::{Extension, Router};
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Cuts the connection that a request came in on.
#[derive(Debug, Clone, Default)]
pub struct Cutter(Arc<AtomicBool>);

impl Cutter {
    /// The next read or write of the connection fails, and its peer gets a reset.
    pub fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Gives each connection a [`Cutter`] that its requests find among their extensions.
#[derive(Debug, Clone, Copy, Default)]
pub struct CuttableAcceptor;

impl Accept<TcpStream, Router> for CuttableAcceptor {
    type Stream = Cuttable;
    type Service = Router;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: Router) -> Self::Future {
        let cutter = Cutter::default();
        let service = service.layer(Extension(cutter.clone()));
        std::future::ready(stream.set_nodelay(true).map(|()| (Cuttable { stream, cutter }, service)))
    }
}

/// A TCP stream that fails once its cutter says so.
#[derive(Debug)]
pub struct Cuttable {
    stream: TcpStream,
    cutter: Cutter,
}

impl Cuttable {
    fn check(&self) -> io::Result<()> {
        if !self.cutter.0.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Closing with zero linger makes the kernel send a reset and drop what is unsent.
        self.stream.set_zero_linger()?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
