//! The filesystem's values as the protocol's structures.
//!
//! Invariant: how long the kernel may keep names and attributes is decided here alone. It may keep them long, because nobody
//! but this kernel changes a volume that is served.

use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{Attr as WireAttr, AttrOut, EntryOut, Kstatfs, SetattrIn, StatfsOut};

use crate::fs::{Attr, Entry, SetAttr, SetTime, StorageSize, Time};

/// How long the kernel may keep a name or attributes.
const VALID: Duration = Duration::from_hours(1);

/// Bits of `fuse_setattr_in.valid`.
const MODE: u32 = 1;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;
const KILL_SUIDGID: u32 = 1 << 11;

/// The reply to whatever looks a name up or makes one.
pub fn entry(entry: &Entry) -> EntryOut {
    EntryOut {
        nodeid: entry.id,
        generation: 0,
        entry_valid: VALID.as_secs(),
        attr_valid: VALID.as_secs(),
        entry_valid_nsec: 0,
        attr_valid_nsec: 0,
        attr: attr(&entry.attr),
    }
}

/// The reply that lets the kernel remember that a name is not there.
pub fn no_entry() -> EntryOut {
    EntryOut { entry_valid: VALID.as_secs(), ..EntryOut::default() }
}

/// The reply to `GETATTR` and `SETATTR`.
pub fn attr_out(from: &Attr) -> AttrOut {
    AttrOut { attr_valid: VALID.as_secs(), attr_valid_nsec: 0, dummy: 0, attr: attr(from) }
}

fn attr(attr: &Attr) -> WireAttr {
    WireAttr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.seconds as u64,
        mtime: attr.mtime.seconds as u64,
        ctime: attr.ctime.seconds as u64,
        atimensec: attr.atime.nanoseconds,
        mtimensec: attr.mtime.nanoseconds,
        ctimensec: attr.ctime.nanoseconds,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.device),
        blksize: 4096,
        flags: 0,
    }
}

/// Bytes of `fuse_statx_out`.
const STATX_OUT: usize = 288;
/// `STATX_BASIC_STATS` and `STATX_BTIME`.
const BASIC: u32 = 0x7ff;
const BIRTH: u32 = 0x800;

/// The reply to `STATX`, which the protocol types do not know: `fuse_statx_out`, field by field.
pub fn statx(attr: &Attr, birth: Option<Time>) -> [u8; STATX_OUT] {
    let mut out = [0; STATX_OUT];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&VALID.as_secs().to_ne_bytes());
    put(&[0; 4 + 4 + 16]);
    let mask = BASIC | if birth.is_some() { BIRTH } else { 0 };
    put(&mask.to_ne_bytes());
    put(&4096_u32.to_ne_bytes());
    put(&[0; 8]);
    for word in [attr.nlink, attr.uid, attr.gid] {
        put(&word.to_ne_bytes());
    }
    put(&(attr.mode as u16).to_ne_bytes());
    put(&[0; 2]);
    for word in [attr.ino, attr.size, attr.blocks, 0] {
        put(&word.to_ne_bytes());
    }
    for time in [attr.atime, birth.unwrap_or_default(), attr.ctime, attr.mtime] {
        put(&time.seconds.to_ne_bytes());
        put(&time.nanoseconds.to_ne_bytes());
        put(&[0; 4]);
    }
    for word in [libc::major(attr.device), libc::minor(attr.device)] {
        put(&word.to_ne_bytes());
    }
    out
}

/// A device's number in the 32 bits that the protocol has for it (the kernel's `new_encode_dev`).
fn encode_device(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The opposite of [`encode_device`].
pub fn decode_device(device: u32) -> u64 {
    libc::makedev((device & 0xfff00) >> 8, (device & 0xff) | ((device >> 12) & 0xfff00))
}

/// What a `SETATTR` asks for.
pub fn set_attr(from: &SetattrIn) -> SetAttr {
    let given = |bit: u32| from.valid & bit != 0;
    let time = |bit, now, seconds: u64, nanoseconds| {
        if given(now) {
            SetTime::Now
        } else if given(bit) {
            SetTime::To(Time { seconds: seconds as i64, nanoseconds })
        } else {
            SetTime::Keep
        }
    };
    SetAttr {
        mode: given(MODE).then_some(from.mode & 0o7777),
        uid: given(UID).then_some(from.uid),
        gid: given(GID).then_some(from.gid),
        size: given(SIZE).then_some(from.size),
        atime: time(ATIME, ATIME_NOW, from.atime, from.atimensec),
        mtime: time(MTIME, MTIME_NOW, from.mtime, from.mtimensec),
        clear_privileges: given(KILL_SUIDGID),
    }
}

/// The reply to `STATFS`.
pub fn statfs(size: &StorageSize) -> StatfsOut {
    StatfsOut {
        st: Kstatfs {
            blocks: size.blocks,
            bfree: size.free,
            bavail: size.available,
            files: size.files,
            ffree: size.files_free,
            bsize: size.block_size,
            namelen: size.name_max,
            frsize: size.block_size,
            ..Kstatfs::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_survives_its_32_bits() {
        for device in [libc::makedev(1, 3), libc::makedev(4095, 1_048_575), 0] {
            assert_eq!(decode_device(encode_device(device)), device);
        }
    }

    #[test]
    fn a_time_before_1970_survives_and_now_wins_over_a_value() {
        let from = SetattrIn {
            valid: ATIME | MTIME | MTIME_NOW,
            atime: -5_i64 as u64,
            atimensec: 7,
            mtime: 1,
            ..SetattrIn::default()
        };
        let to = set_attr(&from);
        assert_eq!(to.atime, SetTime::To(Time { seconds: -5, nanoseconds: 7 }));
        assert_eq!(to.mtime, SetTime::Now);
        assert_eq!((to.mode, to.size), (None, None));
    }
}
