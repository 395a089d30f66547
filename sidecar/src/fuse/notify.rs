//! Notifications: what the kernel is told to forget and to remember.
//!
//! Invariant: they are written by threads that serve no request, because the kernel may wait for requests before it takes one.

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Weak;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{
    Notify_Retrieve_Out, NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyOpcode, OutHeader,
};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::session::Shared;
use crate::fs::KernelCache;

/// `FUSE_NOTIFY_STORE`, which the protocol types do not know.
const NOTIFY_STORE: i32 = 4;

/// `fuse_notify_store_out`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct NotifyStoreOut {
    nodeid: u64,
    offset: u64,
    size: u32,
    padding: u32,
}

// SAFETY: it is made of integers only, with no padding between them, so that any bytes are a value and any value is bytes.
unsafe impl ByteValued for NotifyStoreOut {}

/// See the module.
pub struct Notifier {
    device: Weak<OwnedFd>,
    shared: Weak<Shared>,
}

impl KernelCache for Notifier {
    fn remember(&self, id: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let body = NotifyStoreOut { nodeid: id, offset, size: data.len() as u32, padding: 0 };
        self.notify(NOTIFY_STORE, body.as_slice(), data)
    }

    fn forget_pages(&self, id: u64) -> io::Result<()> {
        let body = NotifyInvalInodeOut { ino: id, off: 0, len: 0 };
        self.notify(NotifyOpcode::InvalInode as i32, body.as_slice(), &[])
    }

    fn forget_attributes(&self, id: u64) -> io::Result<()> {
        // A negative offset: no pages.
        let body = NotifyInvalInodeOut { ino: id, off: -1, len: 0 };
        self.notify(NotifyOpcode::InvalInode as i32, body.as_slice(), &[])
    }

    fn forget_name(&self, parent: u64, name: &CStr) -> io::Result<()> {
        let body = NotifyInvalEntryOut { parent, namelen: name.count_bytes() as u32, padding: 0 };
        self.notify(NotifyOpcode::InvalEntry as i32, body.as_slice(), name.to_bytes_with_nul())
    }

    fn forget_buffers(&self, files: &[u64], patience: Duration) -> bool {
        let Some(shared) = self.shared.upgrade() else { return true };
        // Nothing of a file's pages: each question comes back as a request, and so wakes a thread that waits for one.
        let ask = |file: &u64| {
            let body = Notify_Retrieve_Out { nodeid: *file, ..Notify_Retrieve_Out::default() };
            self.send(NotifyOpcode::Retrieve as i32, body.as_slice(), &[]).is_ok()
        };
        shared.wipes.ask(patience, |threads| {
            for _ in 0..threads {
                // One that the kernel still knows.
                let _ = files.iter().any(ask);
            }
        })
    }
}

impl Notifier {
    /// For the connection of `device`, which `shared` serves.
    pub fn new(device: Weak<OwnedFd>, shared: Weak<Shared>) -> Self {
        Self { device, shared }
    }

    fn notify(&self, code: i32, body: &[u8], rest: &[u8]) -> io::Result<()> {
        match self.send(code, body, rest) {
            // The kernel has forgotten it by itself, or the connection is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&self, code: i32, body: &[u8], rest: &[u8]) -> Result<(), Errno> {
        // Nobody can say any more what a kernel without a connection remembers.
        let Some(device) = self.device.upgrade() else { return Err(Errno::NOTCONN) };
        let len = size_of::<OutHeader>() + body.len() + rest.len();
        let header = OutHeader { len: len as u32, error: code, unique: 0 };
        let parts = [IoSlice::new(header.as_slice()), IoSlice::new(body), IoSlice::new(rest)];
        rustix::io::writev(&device, &parts).map(drop)
    }
}
