//! What goes in and out of the filesystem's methods.
//!
//! Invariant: plain values; sizes and offsets are bytes of plaintext, modes are those of `stat(2)`.

use std::ffi::CStr;

use envelope::{Geometry, Ownership, VolumeId};
use rustix::fs::FileType;

/// The identifier of the root directory.
pub const ROOT: u64 = 1;

/// How a volume is served: from its marker and the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// The volume that new files belong to.
    pub volume: VolumeId,
    /// Header pages of every file.
    pub geometry: Geometry,
    /// Who owns files on the backing storage.
    pub ownership: Ownership,
    /// No holes, and zeroed blocks are refused.
    pub strict: bool,
    /// New files have a seal.
    pub seal: bool,
    /// Nothing is ever written.
    pub read_only: bool,
    /// Names in the root that belong to the storage itself, besides `lost+found`.
    pub storage_entries: Vec<String>,
}

/// Who asks. Used only to give new files an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970; may be negative.
    pub seconds: i64,
    /// `0..1_000_000_000`.
    pub nanoseconds: u32,
}

/// Attributes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number for `stat`.
    pub ino: u64,
    /// Bytes of plaintext.
    pub size: u64,
    /// Units of 512 bytes on the backing storage.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of contents.
    pub mtime: Time,
    /// Last change of attributes.
    pub ctime: Time,
    /// Type and permission bits.
    pub mode: u32,
    /// Links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of the device that a device node stands for; else 0.
    pub device: u64,
}

/// A file that was looked up or made. It counts as one lookup, given back by `forget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The identifier for later calls.
    pub id: u64,
    /// Its attributes.
    pub attr: Attr,
}

/// How a time is to be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetTime {
    /// Left alone.
    #[default]
    Keep,
    /// The server's clock.
    Now,
    /// This time.
    To(Time),
}

/// What is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes of plaintext.
    pub size: Option<u64>,
    /// Last access.
    pub atime: SetTime,
    /// Last change of contents.
    pub mtime: SetTime,
    /// A change of size clears set-user-id, and set-group-id of group-executable files.
    pub clear_privileges: bool,
}

/// How a file is made or opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// For writing (which includes reading, on the backing storage).
    pub write: bool,
    /// Cut to size 0.
    pub truncate: bool,
    /// With `truncate`: clear set-user-id and set-group-id.
    pub clear_privileges: bool,
}

/// How a write is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteHow {
    /// The kernel writes back pages that a process changed in a mapping: accepted as long as the key is here, and while a
    /// suspension drains.
    pub writeback: bool,
    /// Clear set-user-id, and set-group-id of group-executable files.
    pub clear_privileges: bool,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Inode number.
    pub ino: u64,
    /// What the directory says that it is.
    pub kind: FileType,
    /// Its name.
    pub name: &'a CStr,
    /// Where to go on behind it.
    pub next: u64,
}

/// Sizes of the storage, `statvfs(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSize {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Blocks free for users.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Bytes of the longest name.
    pub name_max: u32,
}
