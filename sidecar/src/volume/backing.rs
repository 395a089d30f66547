//! What the storage under a volume can be trusted with, from its filesystem type and block size.
//!
//! Invariant: a type that is not known is trusted with nothing.

use std::os::fd::AsFd;

/// `f_type` of filesystems on a local disk whose writeback goes through the disk's cache flush.
const LOCAL: &[i64] = &[
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0xF2F5_2010, // f2fs
    0x2FC1_2FC1, // zfs
    0x0102_1994, // tmpfs: nothing survives a crash, so nothing is torn by one
];

/// What is known of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    fs_type: i64,
    block_size: u64,
}

impl Backing {
    /// Asks the kernel (statfs(2)).
    pub fn of(dir: impl AsFd) -> std::io::Result<Self> {
        let stat = rustix::fs::fstatfs(dir)?;
        Ok(Self { fs_type: stat.f_type, block_size: u64::try_from(stat.f_bsize).unwrap_or(0) })
    }

    /// Only this node can have it mounted, so that a lock of this kernel says all.
    pub fn is_local(&self) -> bool {
        LOCAL.contains(&self.fs_type)
    }

    /// `syncfs` is an answer about the device.
    pub fn syncfs_is_durable(&self) -> bool {
        self.is_local()
    }

    /// An aligned write of 4096 bytes is old or new after a crash.
    pub fn pages_are_whole(&self) -> bool {
        self.is_local()
            && self.block_size >= envelope::PAGE as u64
            && self.block_size.is_multiple_of(envelope::PAGE as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_block_or_an_unknown_type_may_tear_a_page() {
        let ext4 = |block_size| Backing { fs_type: 0xEF53, block_size };
        assert!(ext4(4096).pages_are_whole());
        assert!(!ext4(1024).pages_are_whole());
        let nfs = Backing { fs_type: 0x6969, block_size: 1 << 20 };
        assert!(!nfs.pages_are_whole() && !nfs.syncfs_is_durable() && !nfs.is_local());
    }
}
