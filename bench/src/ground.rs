//! What a piece of work works on, and how caches are made cold. Invariant: what is dropped is the kernel's cache of the mounts; what the
//! storage holds is in the page cache when work begins.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// A tmpfs cannot lose its pages; a mount that is itself measured by hand (FUSE) is to stay cold.
const NOT_WARMED: [i64; 2] = [0x0102_1994, 0x6573_5546];
/// How long servers may take to hear what was forgotten.
const SETTLE: Duration = Duration::from_millis(400);

/// The ground of one contender.
pub struct Ground<'a> {
    /// Where files are read and written.
    pub path: &'a Path,
    /// Where the storage keeps them.
    pub raw: &'a Path,
    /// The share of the usual amount of work.
    pub scale: f64,
    /// Sources that are unpacked and searched, as a tar archive.
    pub archive: &'a Path,
}

impl Ground<'_> {
    /// `usual` work items at this scale, one at least.
    pub fn count(&self, usual: usize) -> usize {
        ((usual as f64 * self.scale) as usize).max(1)
    }

    /// A path in the mount.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the kernel forget what it knows of the mount, and remember what the storage holds.
    pub fn cool(&self) -> Result<()> {
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").context("drop the kernel's caches")?;
        if !NOT_WARMED.contains(&(rustix::fs::statfs(self.raw)?.f_type as i64)) {
            warm(self.raw)?;
        }
        // Every mount's server is told what the kernel forgot; none of them is to be busy with that when work begins.
        std::thread::sleep(SETTLE);
        Ok(())
    }
}

/// Reads all files below `dir`.
fn warm(dir: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            warm(&entry.path())?;
        } else if kind.is_file() {
            let mut file = File::open(entry.path())?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}

/// Numbers that look random and are the same in each run (xorshift).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `0..count` in another order.
    pub fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
        order
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}
