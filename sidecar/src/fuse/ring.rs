//! An entry of the kernel's queues for FUSE over io_uring: requests that are handled on the processor that they come from.
//!
//! The structures are those of the kernel's `include/uapi/linux/fuse.h` since protocol 7.42 (Linux 6.14).
//!
//! Invariant: the kernel reads and fills the buffers only inside [`Ring::next`], because the ring defers all of its work to the
//! thread that owns it (`DEFER_TASKRUN`); between two calls they belong to this thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{InHeader, OutHeader};
use io_uring::squeue::Entry128;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::request::Request;
use super::session::End;
use crate::fs::{Buffer, MAX_IO};

/// `FUSE_IO_URING_CMD_REGISTER` and `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`.
const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;
/// Offsets in `fuse_uring_req_header`: of what a request's operation says, and of `fuse_uring_ent_in_out`.
const OPERATION: usize = 128;
const ENTRY: usize = 256;
const HEADERS: usize = 288;
/// In `fuse_uring_ent_in_out`.
const COMMIT_ID: usize = ENTRY + 8;
const PAYLOAD_SIZE: usize = ENTRY + 16;
/// Of `io_uring_sqe.len`.
const SQE_LEN: usize = 24;
/// Buffers of an entry: headers, and payload.
const SEGMENTS: u32 = 2;

type Queues = IoUring<Entry128, cqueue::Entry>;

/// An entry, by a ring of its own.
pub struct Ring {
    queues: Queues,
    device: Fd,
    queue: u16,
    headers: Buffer,
    payload: Buffer,
    /// Bytes of the payload that a request in hand, or an answer on its way, needs.
    used: usize,
    /// Where the kernel finds the two; it reads this when the entry is registered.
    segments: Box<[libc::iovec; SEGMENTS as usize]>,
}

/// What a wait came to.
pub enum Next {
    /// A request is in the buffers.
    Request,
    /// None came in time.
    Nothing,
    /// The connection has ended.
    End(End),
}

fn queues() -> io::Result<Queues> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(2)
}

impl Ring {
    /// Whether this process may use io_uring at all.
    pub fn probe() -> io::Result<()> {
        queues().map(drop)
    }

    /// Offers the kernel an entry in the queue of processor `queue`. The session must have begun, and the thread that calls
    /// this must be the one that uses it.
    pub fn open(device: BorrowedFd<'_>, queue: u16) -> io::Result<Self> {
        let queues = queues()?;
        let (mut headers, mut payload) = (Buffer::new(HEADERS), Buffer::new(MAX_IO));
        let segment = |buffer: &mut Buffer| {
            let bytes = buffer.bytes();
            libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
        };
        let segments = Box::new([segment(&mut headers), segment(&mut payload)]);
        let device = Fd(device.as_raw_fd());
        let mut this = Self { queues, device, queue, headers, payload, used: 0, segments };
        this.push(REGISTER, 0)?;
        Ok(this)
    }

    fn push(&mut self, command: u32, commit: u64) -> io::Result<()> {
        let mut argument = [0; 80];
        argument[8..16].copy_from_slice(&commit.to_ne_bytes());
        argument[16..18].copy_from_slice(&self.queue.to_ne_bytes());
        let segments = self.segments.as_ptr() as u64;
        let mut entry =
            opcode::UringCmd80::new(self.device, command).cmd(argument).addr(Some(segments)).build();
        const { assert!(size_of::<Entry128>() == 128) };
        // SAFETY: an entry is the kernel's structure of 128 bytes, in which these four are the length.
        unsafe { (&raw mut entry).cast::<[u8; 4]>().add(SQE_LEN / 4).write(SEGMENTS.to_ne_bytes()) };
        // SAFETY: the buffers live as long as the ring, and the kernel uses them inside of `next` only.
        unsafe { self.queues.submission().push(&entry) }.map_err(io::Error::other)
    }

    /// Submits what was pushed, and waits at most `patience` for a request.
    pub fn next(&mut self, patience: Duration) -> Next {
        let patience = Timespec::from(patience);
        let waited = self.queues.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&patience));
        match waited.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
            Ok(_) | Err(Errno::TIME | Errno::INTR) => {}
            Err(error) => return Next::End(End::Failed(error)),
        }
        let Some(done) = self.queues.completion().next() else {
            if self.queues.submission().is_empty() {
                self.used = 0;
            }
            return Next::Nothing;
        };
        if done.result() >= 0 {
            self.used = self.size();
            return Next::Request;
        }
        match Errno::from_raw_os_error(-done.result()) {
            Errno::NOTCONN | Errno::NODEV | Errno::CANCELED => Next::End(End::Unmounted),
            Errno::CONNABORTED => Next::End(End::Aborted),
            error => Next::End(End::Failed(error)),
        }
    }

    /// Bytes of the payload that came with a request.
    fn size(&mut self) -> usize {
        let size = self.headers.bytes()[PAYLOAD_SIZE..].first_chunk().copied().map_or(0, u32::from_ne_bytes);
        MAX_IO.min(size as usize)
    }

    /// The request in the buffers.
    pub fn request(&mut self) -> Option<Request<'_>> {
        let headers = self.headers.bytes();
        let header = *InHeader::from_slice(&headers[..size_of::<InHeader>()])?;
        Some(Request::of_parts(header, &headers[OPERATION..ENTRY], &self.payload.bytes()[..self.used]))
    }

    /// Answers it, and offers the entry again, with the next call of [`Self::next`]. `error` is positive.
    pub fn answer(&mut self, unique: u64, error: i32, body: &[u8]) -> io::Result<()> {
        self.payload.bytes()[..body.len()].copy_from_slice(body);
        self.used = body.len();
        let len = size_of::<OutHeader>() + body.len();
        let out = OutHeader { len: len as u32, error: -error, unique };
        let headers = self.headers.bytes();
        headers[..size_of::<OutHeader>()].copy_from_slice(out.as_slice());
        headers[PAYLOAD_SIZE..PAYLOAD_SIZE + 4].copy_from_slice(&(body.len() as u32).to_ne_bytes());
        let commit = headers[COMMIT_ID..].first_chunk().copied().map_or(0, u64::from_ne_bytes);
        self.push(COMMIT_AND_FETCH, commit)
    }

    /// Wipes what requests before have left in the buffers, but not a request in hand, nor an answer that is still to be
    /// taken.
    pub fn wipe(&mut self) {
        if self.used == 0 {
            self.payload.wipe();
        } else {
            zeroize::Zeroize::zeroize(&mut self.payload.bytes()[self.used..]);
        }
    }
}
