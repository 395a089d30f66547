//! A connection that ends where its peer says nothing for too long.
//!
//! Invariant: time alone ends it, and only while it waits for its peer; hyper's own time limits begin where it knows the
//! protocol, which it tells by the first bytes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::doors::Place;

/// Bytes that tell the protocol: HTTP/2's preface. No request is shorter.
const FIRST: usize = 24;

/// The connection.
pub struct Guarded<T> {
    inner: T,
    _place: Place,
    read: usize,
    first: Pin<Box<Sleep>>,
    idle: Pin<Box<Sleep>>,
    longest_idle: Duration,
}

impl<T> Guarded<T> {
    /// A connection at its beginning.
    pub fn new(inner: T, place: Place, first: Duration, idle: Duration) -> Self {
        Self {
            inner,
            _place: place,
            read: 0,
            first: Box::pin(sleep(first)),
            idle: Box::pin(sleep(idle)),
            longest_idle: idle,
        }
    }

    fn alive(&mut self) {
        let until = Instant::now() + self.longest_idle;
        self.idle.as_mut().reset(until);
    }

    fn overdue(&mut self, context: &mut Context<'_>) -> bool {
        let slow = self.read < FIRST && self.first.as_mut().poll(context).is_ready();
        slow || self.idle.as_mut().poll(context).is_ready()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(result) => {
                this.read = this.read.saturating_add(buffer.filled().len() - before);
                this.alive();
                Poll::Ready(result)
            }
            Poll::Pending if this.overdue(context) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_write(context, bytes) {
            Poll::Ready(result) => {
                this.alive();
                Poll::Ready(result)
            }
            // A peer that takes nothing holds an answer here.
            Poll::Pending => {
                ready!(this.idle.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
