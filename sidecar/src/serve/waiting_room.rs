//! Answers the kernel while a volume is not open yet: INIT, so that nothing hangs; the root's attributes; the gate's
//! challenge. Everything else is told to come again.
//!
//! Invariant: no request stays without an answer, and none changes anything. When it ends, the descriptor and what was
//! agreed with the kernel are handed on, and no request was lost in between.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use contract::gate::CHALLENGE_XATTR_PREFIX;
use fuse_backend_rs::abi::fuse_abi::{
    Attr, AttrOut, GetxattrIn, GetxattrOut, InitIn, InitIn2, Kstatfs, Opcode, OutHeader, StatfsOut,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vm_memory::ByteValued;

use crate::fs::{MAX_IO, ROOT};
use crate::fuse::{HEADER, Negotiated, Request, Trial, negotiate};

/// How long it waits for a request before it looks whether its time is over.
const LOOK: Duration = Duration::from_millis(50);
/// The opcode that the protocol types do not know.
const SYNCFS: u32 = 50;

/// What the room asks and tells.
pub trait Host {
    /// The value of the challenge with this nonce in hex.
    fn challenge(&self, nonce: &str) -> Option<Vec<u8>>;
    /// What every other request gets.
    fn errno(&self) -> Errno;
    /// INIT was answered.
    fn started(&self);
    /// The room's time is over; `started`: INIT was answered.
    fn is_over(&self, started: bool) -> bool;
}

/// Why the room ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomEnd {
    /// Its time was over after INIT: the descriptor can be served on.
    Over(Negotiated),
    /// Its time was over before INIT.
    NeverStarted,
    /// The connection ended.
    Gone(Errno),
}

/// A room before one connection.
pub struct WaitingRoom<'a> {
    device: BorrowedFd<'a>,
    acl: bool,
    agreed: Option<Negotiated>,
}

impl<'a> WaitingRoom<'a> {
    /// A room before `device`. `acl`: the volume has native ownership, so that ACLs are agreed.
    pub fn new(device: &'a impl AsFd, acl: bool) -> Self {
        Self { device: device.as_fd(), acl, agreed: None }
    }

    /// Answers until the time is over.
    pub fn run(mut self, host: &impl Host) -> RoomEnd {
        // The kernel wants room for the largest write, and the header aligned.
        let mut buffer = vec![0_u64; (MAX_IO + 8192) / 8];
        let buffer = bytes_of(&mut buffer);
        loop {
            if host.is_over(self.agreed.is_some()) {
                return self.agreed.map_or(RoomEnd::NeverStarted, RoomEnd::Over);
            }
            match self.read(buffer) {
                Ok(0) => {}
                Ok(len) => self.answer(&buffer[..len], host),
                Err(error) => return RoomEnd::Gone(error),
            }
        }
    }

    /// The next request; 0 if none came in time.
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut polled = [PollFd::new(&self.device, PollFlags::IN)];
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
        match poll(&mut polled, Some(&look)) {
            Ok(0) | Err(Errno::INTR) => return Ok(0),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        match rustix::io::read(self.device, buffer) {
            Ok(len) => Ok(len),
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn answer(&mut self, bytes: &[u8], host: &impl Host) {
        let Some(mut request) = Request::parse(bytes) else {
            tracing::warn!(len = bytes.len(), "a request is not whole");
            return;
        };
        let unique = request.header.unique;
        let code = request.header.opcode;
        let result = match Opcode::from(code) {
            // These want no answer.
            Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt if code != SYNCFS => return,
            Opcode::Init => self.init(&mut request),
            Opcode::Destroy => Ok(vec![]),
            Opcode::Getattr if request.node() == ROOT => Ok(root_attributes()),
            Opcode::Statfs => Ok(StatfsOut {
                st: Kstatfs { bsize: 4096, namelen: 255, frsize: 4096, ..Kstatfs::default() },
            }
            .as_slice()
            .to_vec()),
            Opcode::Getxattr if request.node() == ROOT => challenge(&mut request, host),
            _ => Err(host.errno()),
        };
        let (error, body) = match result {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error(), vec![]),
        };
        let header = OutHeader { len: (size_of::<OutHeader>() + body.len()) as u32, error, unique };
        let parts = [IoSlice::new(header.as_slice()), IoSlice::new(&body)];
        match rustix::io::writev(self.device, &parts) {
            // That it was withdrawn meanwhile is no error.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
            Err(error) => tracing::warn!(%error, "cannot answer a request"),
        }
        if error == 0 && code == Opcode::Init as u32 {
            host.started();
        }
    }

    fn init(&mut self, request: &mut Request<'_>) -> Result<Vec<u8>, Errno> {
        let malformed = |_| Errno::INVAL;
        let offer: InitIn = request.take().map_err(malformed)?;
        let more: Option<InitIn2> = request.take_if_there();
        let Some((out, agreed)) = negotiate(&offer, more.as_ref(), self.acl, Trial::default()) else {
            tracing::error!(
                major = offer.major,
                minor = offer.minor,
                "the kernel's fuse protocol is too old"
            );
            return Err(Errno::PROTO);
        };
        self.agreed = Some(agreed);
        Ok(out.as_slice().to_vec())
    }
}

/// A directory that everybody may pass; the kernel must not remember it.
fn root_attributes() -> Vec<u8> {
    let attr = Attr { ino: ROOT, mode: libc::S_IFDIR | 0o755, nlink: 2, blksize: 4096, ..Attr::default() };
    AttrOut { attr_valid: 0, attr_valid_nsec: 0, dummy: 0, attr }.as_slice().to_vec()
}

fn challenge(request: &mut Request<'_>, host: &impl Host) -> Result<Vec<u8>, Errno> {
    let GetxattrIn { size, .. } = request.take().map_err(|_| Errno::INVAL)?;
    let name = request.name().map_err(|_| Errno::INVAL)?.to_str().unwrap_or_default();
    let nonce = name.strip_prefix(CHALLENGE_XATTR_PREFIX).ok_or_else(|| host.errno())?;
    let value = host.challenge(nonce).ok_or(Errno::NODATA)?;
    match size as usize {
        0 => Ok(GetxattrOut { size: value.len() as u32, padding: 0 }.as_slice().to_vec()),
        size if size < value.len() => Err(Errno::RANGE),
        _ => Ok(value),
    }
}

fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    const { assert!(HEADER.is_multiple_of(8)) };
    // SAFETY: every byte pattern is a valid u8 and a valid u64; the length is that of the same allocation in bytes.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), size_of_val(words)) }
}

/// Whether an error means that the other side ended the connection.
pub fn is_aborted(error: Errno) -> bool {
    matches!(error, Errno::NODEV | Errno::CONNABORTED)
}

/// An error as an `io::Error`, for messages.
pub fn describe(error: Errno) -> String {
    if is_aborted(error) {
        "the connection was ended by the node".into()
    } else {
        io::Error::from(error).to_string()
    }
}
