//! A disk whose power can be cut: a filesystem of the kernel on a loop device.
//!
//! Invariant: after [`Disk::cut`] nothing more reaches the disk, so that mounting it again shows what was durable.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{run, words};
use crate::place::{Place, unmount};

/// What the disk is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// ext4 with blocks of 4096 bytes and a journal.
    Ext4,
    /// XFS.
    Xfs,
}

/// See the module.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    root: PathBuf,
}

impl Disk {
    /// A formatted and mounted disk.
    pub fn new(place: &Place, format: Format) -> Result<Self> {
        match format {
            Format::Ext4 => Self::formatted(place, 96, &["mkfs.ext4", "-q", "-b", "4096"]),
            // The smallest that mkfs.xfs takes. The image is sparse.
            Format::Xfs => Self::formatted(place, 320, &["mkfs.xfs", "-q"]),
        }
    }

    /// A disk of `mebibytes`, formatted by the command `mkfs`.
    pub fn formatted(place: &Place, mebibytes: u64, mkfs: &[&str]) -> Result<Self> {
        let disk = Self { image: place.path("disk.img"), root: place.dir("disk")? };
        let image = File::create(&disk.image).context("make the image")?;
        image.set_len(mebibytes << 20).context("make the image")?;
        let [path] = words([&disk.image]);
        run(mkfs[0], &[&mkfs[1..], &[&path]].concat())?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cuts the power: what is not on the disk is gone. With `flush` the filesystem's log gets there first, as if a commit
    /// had happened by chance. This is what `xfs_io -x -c shutdown` does.
    pub fn cut(&self, flush: bool) -> Result<()> {
        nix::ioctl_read!(going_down, b'X', 125, u32);
        let root = File::open(&self.root).context("open the disk")?;
        let mut flags = if flush { 1 } else { 2 };
        // SAFETY: the ioctl reads one u32, which outlives the call.
        unsafe { going_down(root.as_raw_fd(), &raw mut flags) }.context("cut the power")?;
        Ok(())
    }

    /// After a cut: the filesystem as the next boot finds it.
    pub fn mount_again(&self) -> Result<()> {
        unmount(&self.root)?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let [image, root] = words([&self.image, &self.root]);
        run("mount", &["-o", "loop", &image, &root]).map(drop)
    }
}
