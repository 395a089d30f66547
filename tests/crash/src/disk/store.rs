//! All volumes of a mount, each with its recording.
//!
//! Invariant: a volume's inodes have numbers of their own, so that the kernel's memory of an earlier volume says nothing
//! about a later one.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::image::{Change, Image, Ino, ROOT};

/// Bits of an identifier that are the inode's number in its volume.
const INO_BITS: u32 = 24;

/// What an operation does instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and changes nothing.
    Error(Errno),
    /// A write stores so many bytes of what it was given, and says so; anything else succeeds.
    Short(usize),
    /// The disk is full: a write stores so many bytes, and no later one stores anything. A page within the
    /// file is written whole or not at all.
    Full(usize),
}

/// Which operation fails.
#[derive(Clone, Copy, Debug)]
pub struct Injection {
    /// How many operations succeed before it.
    pub after: usize,
    /// What it does.
    pub fault: Fault,
}

/// One volume and what happened to it.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// As it was at the beginning, all of it durable.
    pub base: Image,
    /// As it is.
    pub image: Image,
    /// What happened.
    pub log: Vec<Change>,
    /// What is to fail.
    pub injection: Option<Injection>,
    /// No write finds space.
    pub full: bool,
}

impl Recording {
    /// A volume that holds `base`.
    pub fn of(base: Image) -> Self {
        Self { image: base.clone(), base, log: Vec::new(), injection: None, full: false }
    }

    /// Makes a change and records it, unless it is to fail.
    pub fn commit(&mut self, change: Change) -> Result<(), Errno> {
        if let Some(Fault::Error(error)) = self.strike() {
            return Err(error);
        }
        self.done(change);
        Ok(())
    }

    /// As [`Self::commit`], of a write: how many bytes were stored.
    pub fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        if self.full {
            return Err(Errno::NOSPC);
        }
        let len = match self.strike() {
            Some(Fault::Error(error)) => return Err(error),
            Some(Fault::Short(len)) => len.min(bytes.len()),
            Some(Fault::Full(len)) => {
                self.full = true;
                match self.whole_pages(ino, offset, len.min(bytes.len())) {
                    0 => return Err(Errno::NOSPC),
                    stored => stored,
                }
            }
            None => bytes.len(),
        };
        if len > 0 {
            self.done(Change::Write { ino, offset, bytes: bytes[..len].to_vec() });
        }
        Ok(len)
    }

    /// How much of a write of `len` bytes is stored where no page within the file is torn.
    fn whole_pages(&self, ino: Ino, offset: u64, len: usize) -> usize {
        const PAGE: u64 = envelope::PAGE as u64;
        let end = offset + len as u64;
        let within = self.image.data(ino).is_some_and(|data| end - end % PAGE < data.size);
        if within { (end - end % PAGE).saturating_sub(offset) as usize } else { len }
    }

    fn done(&mut self, change: Change) {
        self.image.apply(&change);
        self.log.push(change);
    }

    fn strike(&mut self) -> Option<Fault> {
        let injection = self.injection.as_mut()?;
        if injection.after > 0 {
            injection.after -= 1;
            return None;
        }
        self.injection.take().map(|injection| injection.fault)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Store {
    volumes: BTreeMap<u64, Recording>,
    next: u64,
}

/// An inode of a volume, as an identifier names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    /// The volume; 0 is the directory of all volumes.
    pub volume: u64,
    /// The inode.
    pub ino: Ino,
}

impl Id {
    /// From the kernel's number.
    pub fn of(number: u64) -> Self {
        Self { volume: number >> INO_BITS, ino: number & ((1 << INO_BITS) - 1) }
    }

    /// The kernel's number.
    pub fn number(self) -> u64 {
        (self.volume << INO_BITS) | self.ino
    }
}

impl Store {
    /// A new volume; its number, which is its name in the mount.
    pub fn add(&mut self, base: Image) -> u64 {
        self.next += 1;
        self.volumes.insert(self.next, Recording::of(base));
        self.next
    }

    /// Takes a volume away.
    pub fn remove(&mut self, volume: u64) -> Option<Recording> {
        self.volumes.remove(&volume)
    }

    /// A volume.
    pub fn volume(&mut self, volume: u64) -> Option<&mut Recording> {
        self.volumes.get_mut(&volume)
    }

    /// The root of the volume that has this name.
    pub fn named(&self, name: &[u8]) -> Option<Id> {
        let number = std::str::from_utf8(name).ok()?.parse().ok()?;
        self.volumes.contains_key(&number).then_some(Id { volume: number, ino: ROOT })
    }
}
