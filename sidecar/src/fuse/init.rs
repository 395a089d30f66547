//! INIT: what is agreed with the kernel.
//!
//! Invariant: only what is in [`WANTED`], the ACL set with native ownership, and what a [`Trial`] asks for is ever agreed; each is
//! implemented.

use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{InitIn, InitIn2, InitOut};

use crate::fs::MAX_IO;

const ASYNC_READ: u64 = 1;
const BIG_WRITES: u64 = 1 << 5;
const DONT_MASK: u64 = 1 << 6;
const DO_READDIRPLUS: u64 = 1 << 13;
const READDIRPLUS_AUTO: u64 = 1 << 14;
const ASYNC_DIO: u64 = 1 << 15;
const PARALLEL_DIROPS: u64 = 1 << 18;
const POSIX_ACL: u64 = 1 << 20;
const ABORT_ERROR: u64 = 1 << 21;
const MAX_PAGES: u64 = 1 << 22;
const CACHE_SYMLINKS: u64 = 1 << 23;
const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
const SETXATTR_EXT: u64 = 1 << 29;
const INIT_EXT: u64 = 1 << 30;
const HAS_RESEND: u64 = 1 << 39;
const ALLOW_IDMAP: u64 = 1 << 40;
const WRITEBACK_CACHE: u64 = 1 << 16;
const OVER_IO_URING: u64 = 1 << 41;

/// What is agreed wherever the kernel offers it. No writeback cache: what is acknowledged is in the storage's hands. No
/// `ATOMIC_O_TRUNC`: the kernel would have us cut a running program whose opening it then refuses with `ETXTBSY`.
const WANTED: u64 = ASYNC_READ
    | BIG_WRITES
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | ASYNC_DIO
    | PARALLEL_DIROPS
    | ABORT_ERROR
    | MAX_PAGES
    | CACHE_SYMLINKS
    | HANDLE_KILLPRIV_V2
    | INIT_EXT
    | ALLOW_IDMAP;
/// With ACLs the umask is ours to apply, and set-group-id is ours to clear.
const ACL: u64 = POSIX_ACL | DONT_MASK | SETXATTR_EXT;

const MAJOR: u32 = 7;
/// The protocol that is spoken where the kernel knows it.
const MINOR: u32 = 42;
/// The oldest protocol: the first with all structures as they are used here.
const OLDEST_MINOR: u32 = 31;

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The protocol's minor version, of the kernel and ours the smaller one.
    pub minor: u32,
    /// The flags.
    pub flags: u64,
    /// The kernel could give a live session to another process (Linux 6.9).
    pub can_resend: bool,
}

/// Other ways to serve, options of `mount` that no pod is served by: docs/performance.md says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// So many threads serve at the same time, instead of two for each processor.
    pub threads: Option<usize>,
    /// The kernel's writeback cache: a killed server loses what it acknowledged.
    pub writeback_cache: bool,
    /// A thread looks for requests for so long without sleeping, each time before it sleeps.
    pub spin: Option<Duration>,
    /// Requests come by io_uring, where the kernel offers it (`fuse.enable_uring`).
    pub io_uring: bool,
}

impl Negotiated {
    /// Whether requests come by io_uring.
    pub fn over_io_uring(&self) -> bool {
        self.flags & OVER_IO_URING != 0
    }

    /// `SETXATTR` carries flags of its own.
    pub fn setxattr_ext(&self) -> bool {
        self.flags & SETXATTR_EXT != 0
    }
}

/// Answers an INIT; `None` if the kernel is too old or speaks something else.
pub fn negotiate(
    offer: &InitIn,
    more: Option<&InitIn2>,
    acl: bool,
    trial: Trial,
) -> Option<(InitOut, Negotiated)> {
    if offer.major != MAJOR || offer.minor < OLDEST_MINOR {
        return None;
    }
    let high = if u64::from(offer.flags) & INIT_EXT == 0 { 0 } else { more.map_or(0, |more| more.flags2) };
    let offered = u64::from(offer.flags) | (u64::from(high) << 32);
    let mut flags = offered & WANTED;
    if acl && offered & ACL == ACL {
        flags |= ACL;
    }
    if trial.writeback_cache {
        flags |= offered & WRITEBACK_CACHE;
    }
    if trial.io_uring {
        flags |= offered & OVER_IO_URING;
    }
    let minor = offer.minor.min(MINOR);
    let out = InitOut {
        major: MAJOR,
        minor,
        max_readahead: offer.max_readahead.max(MAX_IO as u32),
        flags: flags as u32,
        max_background: 64,
        congestion_threshold: 48,
        max_write: MAX_IO as u32,
        time_gran: 1,
        max_pages: (MAX_IO / 4096) as u16,
        map_alignment: 0,
        flags2: (flags >> 32) as u32,
        unused: [0; 7],
    };
    Some((out, Negotiated { minor, flags, can_resend: offered & HAS_RESEND != 0 }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EVERYTHING: InitIn = InitIn { major: 7, minor: 45, max_readahead: 131_072, flags: u32::MAX };
    const AND_MORE: InitIn2 = InitIn2 { flags2: u32::MAX, unused: [0; 11] };

    #[test]
    fn of_everything_that_a_kernel_offers_only_what_is_implemented_is_taken() {
        let (out, agreed) = negotiate(&EVERYTHING, Some(&AND_MORE), false, Trial::default()).unwrap();
        assert_eq!(agreed.flags, WANTED);
        assert_eq!((out.flags, out.flags2), (WANTED as u32, (WANTED >> 32) as u32));
        assert_eq!((out.minor, out.max_pages, out.max_write), (MINOR, 256, 1 << 20));
        let (_, agreed) = negotiate(&EVERYTHING, Some(&AND_MORE), true, Trial::default()).unwrap();
        assert_eq!(agreed.flags, WANTED | ACL);
        assert!(agreed.setxattr_ext() && agreed.can_resend);
    }

    #[test]
    fn what_is_only_tried_out_is_agreed_where_it_is_asked_for_and_offered() {
        let writeback = Trial { writeback_cache: true, ..Trial::default() };
        let io_uring = Trial { io_uring: true, ..Trial::default() };
        for (trial, bit) in [(writeback, WRITEBACK_CACHE), (io_uring, OVER_IO_URING)] {
            let (_, agreed) = negotiate(&EVERYTHING, Some(&AND_MORE), false, trial).unwrap();
            assert_eq!((agreed.flags, agreed.over_io_uring()), (WANTED | bit, bit == OVER_IO_URING));
            let little = InitIn { flags: 0, ..EVERYTHING };
            let (_, agreed) = negotiate(&little, None, false, trial).unwrap();
            assert_eq!(agreed.flags, 0);
        }
    }

    #[test]
    fn the_writeback_cache_remote_locks_and_truncation_on_opening_are_never_agreed() {
        const NEVER: u64 = (1 << 3) | (1 << 16) | (1 << 1) | (1 << 10) | (1 << 17) | (1 << 24);
        assert_eq!((WANTED | ACL) & NEVER, 0);
    }

    #[test]
    fn a_kernel_that_offers_little_gets_little_and_one_that_is_too_old_nothing() {
        let little = InitIn { flags: BIG_WRITES as u32, minor: 31, ..EVERYTHING };
        let (out, agreed) = negotiate(&little, None, true, Trial::default()).unwrap();
        assert_eq!((out.flags, out.flags2, agreed.minor), (BIG_WRITES as u32, 0, 31));
        assert!(negotiate(&InitIn { minor: 30, ..little }, None, true, Trial::default()).is_none());
        assert!(negotiate(&InitIn { major: 8, ..little }, None, true, Trial::default()).is_none());
    }
}
