//! The FUSE protocol in front of the filesystem: requests in, replies out, notifications.
//!
//! The protocol's types come from `fuse-backend-rs`; the loop that reads requests is ours. The description followed is the
//! kernel's `include/uapi/linux/fuse.h`, protocol 7.31 to 7.42.
//!
//! Invariant: each request that wants a reply gets exactly one; a request that makes no sense gets an error and harms nobody;
//! nothing is allocated for a read or a write.

mod convert;
mod dispatch;
mod init;
mod listing;
mod notify;
mod pool;
mod pulse;
mod reply;
mod request;
mod ring;
mod rings;
mod served;
mod session;
mod wipe;

pub use init::{Negotiated, Trial, negotiate};
pub use pulse::{PATIENCE, Pulse, Sign};
pub use request::{HEADER, Request};
pub use served::Served;
pub use session::{End, Session, Vitals};
