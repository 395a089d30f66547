//! `SOCK_SEQPACKET` sockets with credentials and descriptors (unix(7)), for tokio.
//!
//! Invariant: who the peer is comes from the kernel, at the time of its connect; descriptors that a peer sends are dropped unseen.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use contract::control::MAX_MESSAGE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, recvmsg, sendmsg, socket_with,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket that waits for connections.
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
}

/// A connection.
pub struct Connection {
    fd: AsyncFd<OwnedFd>,
}

/// The process at the other end.
pub struct Peer {
    /// Its process id in this pid namespace; 0 if it has none here.
    pub pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Listener {
    /// Makes `dir/name` anew, for everybody who can reach the directory. Must be called within a tokio runtime.
    pub fn bind(dir: &Path, name: &str) -> io::Result<Self> {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // An address has 108 bytes; the directory of a pod can have a longer path.
        let handle =
            rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
        bind(&fd, &SocketAddrUnix::new(short)?)?;
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o666))?;
        listen(&fd, 16)?;
        Ok(Self { fd: watched(fd)? })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Connection> {
        let accept = |fd: &OwnedFd| Ok(accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?);
        let fd = self.fd.async_io(Interest::READABLE, accept).await?;
        Ok(Connection { fd: watched(fd)? })
    }
}

impl Connection {
    /// The next message; none when the peer is gone.
    pub async fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, cut) = self
            .fd
            .async_io(Interest::READABLE, |fd| {
                let mut control = rustix::net::RecvAncillaryBuffer::new(&mut []);
                let got = recvmsg(fd, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::empty())?;
                Ok((got.bytes, got.flags.contains(ReturnFlags::TRUNC)))
            })
            .await?;
        if cut {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        buffer.truncate(length);
        Ok((length > 0).then_some(buffer))
    }

    /// Sends one message, with a descriptor if there is one.
    pub async fn send(&self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let send = |fd: &OwnedFd| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            Ok(sendmsg(fd, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?)
        };
        self.fd.async_io(Interest::WRITABLE, send).await.map(|_| ())
    }

    /// Who connected.
    pub fn peer(&self) -> io::Result<Peer> {
        let fd = self.fd.get_ref().as_fd();
        // rustix has no credentials without a pid, which is what a peer in a foreign pid namespace has.
        let nobody = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let pid = socket_option(fd, libc::SO_PEERCRED, nobody)?.pid;
        let pidfd = match peer_pidfd(fd) {
            Ok(pidfd) => Some(pidfd),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Err(error),
            // Linux before 6.5: as near as can be.
            Err(_) => {
                let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::SRCH)?;
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
            }
        };
        Ok(Peer { pid, pidfd })
    }
}

impl Peer {
    /// A handle on the process, if the kernel could give one.
    pub fn into_process(self) -> Option<OwnedFd> {
        self.pidfd
    }

    /// The process's cgroups, read while it was certainly alive, so that its number was its own.
    pub fn cgroup(&self) -> io::Result<String> {
        let file = fs::read_to_string(format!("/proc/{}/cgroup", self.pid))?;
        let Some(pidfd) = &self.pidfd else { return Err(Errno::SRCH.into()) };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        let ended = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0;
        if ended { Err(Errno::SRCH.into()) } else { Ok(file) }
    }
}

fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped and always the same; the `AsyncFd` owns it, and nothing here takes it out.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// A handle on the process that connected, immune to its number being given away again (Linux 6.5).
fn peer_pidfd(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let pidfd = socket_option::<libc::c_int>(fd, SO_PEERPIDFD, -1)?;
    if pidfd < 0 {
        return Err(Errno::SRCH.into());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Of `asm-generic/socket.h`; the libc crate does not have it.
const SO_PEERPIDFD: libc::c_int = 77;

/// getsockopt(2) at `SOL_SOCKET` for the plain C types of this file.
fn socket_option<T: Copy>(fd: BorrowedFd<'_>, option: libc::c_int, empty: T) -> io::Result<T> {
    let mut value = empty;
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, which is initialized and outlives the call; `T` is
    // a C integer or a struct of them, for which every bit pattern is valid.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
