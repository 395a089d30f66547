//! The node driver's socket: messages of `contract::control`, one in each packet, with the FUSE descriptor beside one.
//!
//! Invariant: the connection is close-on-exec and stays in this process; every request but a beat has exactly one answer, and a
//! beat waits for nothing.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use contract::control::{ANSWER_SECONDS, MAX_MESSAGE, Refusal, Reply, Request};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use thiserror::Error;

/// Why a request was not answered as hoped.
#[derive(Debug, Error)]
pub enum DriverError {
    /// No connection, or it broke.
    #[error("talk to the node driver")]
    Io(#[from] io::Error),
    /// The driver said no.
    #[error("node driver refuses ({reason:?}): {message}")]
    Refused {
        /// For programs.
        reason: Refusal,
        /// For a person.
        message: String,
    },
    /// The answer is not one to this request.
    #[error("understand the node driver")]
    Protocol,
}

/// A connection.
#[derive(Debug)]
pub struct Driver {
    socket: OwnedFd,
}

impl Driver {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS as i64))?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(5))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self { socket })
    }

    /// A descriptor, and the number of its FUSE connection.
    pub fn attach(&self, volume: &str) -> Result<(OwnedFd, u32), DriverError> {
        match self.ask(&Request::Attach { volume: volume.to_owned() })? {
            (Reply::Granted { connection }, Some(fd)) => Ok((fd, connection)),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Any request that is answered with `Done`.
    pub fn done(&self, request: &Request) -> Result<(), DriverError> {
        match self.ask(request)? {
            (Reply::Done, _) => Ok(()),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Says that a volume is served; the time between two beats, if the driver counts them.
    pub fn serving(&self, volume: &str) -> Result<Option<Duration>, DriverError> {
        match self.ask(&Request::Serving { volume: volume.to_owned(), beats: true })? {
            (Reply::Counting { seconds }, _) => Ok(Some(Duration::from_secs(seconds.max(1)))),
            (Reply::Done, _) => Ok(None),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    /// Says that the threads which serve a volume get on. A driver that stands still does not hold this up.
    pub fn beat(&self, volume: &str) -> io::Result<()> {
        let text = serde_json::to_vec(&Request::Beat { volume: volume.to_owned() })?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(self.socket.as_raw_fd(), &text, flags) {
            // Enough of them lie there unread.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the driver has gone.
    pub fn is_broken(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // Between requests nothing is sent to us: whatever is readable is the end.
        poll(&mut fds, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), DriverError> {
        let text = serde_json::to_vec(request).map_err(io::Error::from)?;
        send(self.socket.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL).map_err(io::Error::from)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut control = cmsg_space!([std::os::fd::RawFd; 1]);
        let (len, fd) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags)
                .map_err(io::Error::from)?;
            let fds = message.cmsgs().map_err(io::Error::from)?.filter_map(|part| match part {
                ControlMessageOwned::ScmRights(fds) => Some(fds),
                _ => None,
            });
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
            let mut fds: Vec<_> = fds.flatten().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
            (message.bytes, fds.pop())
        };
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        let reply = serde_json::from_slice(&buffer[..len]).map_err(|_| DriverError::Protocol)?;
        Ok((reply, fd))
    }
}

fn unexpected(reply: Reply) -> DriverError {
    match reply {
        Reply::Refused { reason, message } => DriverError::Refused { reason, message },
        Reply::Granted { .. } | Reply::Done | Reply::Counting { .. } => DriverError::Protocol,
    }
}
