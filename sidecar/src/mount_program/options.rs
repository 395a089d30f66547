//! The options of mount(8): a list of words, some with a value, of which the last one counts.
//!
//! Invariant: a word that means something to somebody is obeyed or known to be without effect here; any other is an error.
//! mount(8) does not pass on the words for its defaults (`suid`, `dev`, `exec`), so what nobody names is as it is with any
//! filesystem that root mounts.

use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::MountFlags;
use thiserror::Error;

use crate::cli::{MountArgs, ProfileArgs, TrialArgs};
use crate::mount::Look;

/// How long an earlier mount of the volume may take to end: its server syncs the storage, which may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// An option that is wrong.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// Nobody knows it.
    #[error("there is no option {0}")]
    Unknown(String),
    /// Its value.
    #[error("option {0} has no such value: {1}")]
    Value(&'static str, String),
}

/// Changes of flags, over those that a mount has or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    set: MountFlags,
    cleared: MountFlags,
}

impl Default for Flags {
    fn default() -> Self {
        Self { set: MountFlags::empty(), cleared: MountFlags::empty() }
    }
}

impl Flags {
    /// These changes over `flags`.
    pub fn over(self, flags: MountFlags) -> MountFlags {
        (flags - self.cleared) | self.set
    }

    fn change(&mut self, flag: MountFlags, on: bool) {
        self.set.set(flag, on);
        self.cleared.set(flag, !on);
    }
}

/// All options of a call.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is an option of its own
pub struct Options {
    /// Change a mount that is there.
    pub remount: bool,
    /// Flags of mount(2).
    pub flags: Flags,
    /// Where plain names of sources are directories.
    pub root: Option<PathBuf>,
    /// The directory of the ciphertext, whatever the source is called.
    pub source: Option<PathBuf>,
    /// Where the server writes its warnings.
    pub log: Option<PathBuf>,
    /// How long an earlier mount may take to end.
    pub patience: Duration,
    fsname: Option<String>,
    fstype: String,
    max_read: Option<u32>,
    profile: Option<PathBuf>,
    loopback_http: bool,
    strict: bool,
    seal: bool,
    direct: bool,
    virtual_ownership: bool,
    accept_origin: Vec<String>,
    storage_entry: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            remount: false,
            flags: Flags::default(),
            root: None,
            source: None,
            log: None,
            patience: PATIENCE,
            fsname: None,
            fstype: Look::default().fstype,
            max_read: None,
            profile: None,
            loopback_http: false,
            strict: false,
            seal: false,
            direct: false,
            virtual_ownership: false,
            accept_origin: Vec::new(),
            storage_entry: Vec::new(),
        }
    }
}

impl Options {
    /// Adds a list of options; with `sloppy` what nobody knows is passed over.
    pub fn read(&mut self, list: &str, sloppy: bool) -> Result<(), OptionsError> {
        for option in list.split(',').filter(|option| !option.is_empty()) {
            let (word, value) =
                option.split_once('=').map_or((option, None), |(word, value)| (word, Some(value)));
            let known = match value {
                _ if is_for_others(word) => true,
                Some(value) => self.value(word, value)?,
                None => self.word(word),
            };
            if !known && !sloppy {
                return Err(OptionsError::Unknown(option.to_owned()));
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> bool {
        if let Some((flag, on)) = flag(word) {
            self.flags.change(flag, on);
            return true;
        }
        match word {
            "remount" => self.remount = true,
            "strict" => self.strict = true,
            "seal" => self.seal = true,
            "direct" => self.direct = true,
            "virtual_ownership" => self.virtual_ownership = true,
            "allow_loopback_http" => self.loopback_http = true,
            _ => return false,
        }
        true
    }

    fn value(&mut self, word: &str, value: &str) -> Result<bool, OptionsError> {
        let path = || std::path::absolute(value).map_err(|_| OptionsError::Value("path", value.to_owned()));
        match word {
            "root" => self.root = Some(path()?),
            "source" => self.source = Some(path()?),
            "profile" => self.profile = Some(path()?),
            "log" => self.log = Some(path()?),
            "wait" => self.patience = Duration::from_secs(number("wait", value)?.into()),
            "max_read" => self.max_read = Some(number("max_read", value)?),
            "fsname" => self.fsname = Some(value.to_owned()),
            "fstype" if value == "fuse" || value.starts_with("fuse.") => value.clone_into(&mut self.fstype),
            "fstype" => return Err(OptionsError::Value("fstype", value.to_owned())),
            "subtype" => self.fstype = format!("fuse.{value}"),
            "accept_origin" => self.accept_origin.push(value.to_owned()),
            "storage_entry" => self.storage_entry.push(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How the mount of `source` is to look.
    pub fn look(&self, source: &str) -> Look {
        Look {
            source: self.fsname.clone().unwrap_or_else(|| source.to_owned()),
            fstype: self.fstype.clone(),
            flags: self.flags.over(MountFlags::empty()),
            max_read: self.max_read,
        }
    }

    /// Device nodes work on this mount, so that they can be made too.
    pub fn has_devices(&self) -> bool {
        !self.flags.over(MountFlags::empty()).contains(MountFlags::NODEV)
    }

    /// The volume to mount, in the words of the command `mount`.
    pub fn volume(&self, backing: PathBuf, mountpoint: PathBuf) -> MountArgs {
        MountArgs {
            backing,
            mountpoint,
            read_only: self.flags.over(MountFlags::empty()).contains(MountFlags::RDONLY),
            direct: self.direct,
            strict: self.strict,
            seal: self.seal,
            virtual_ownership: self.virtual_ownership,
            accept_origin: self.accept_origin.clone(),
            storage_entry: self.storage_entry.clone(),
            trial: TrialArgs::default(),
            profile: ProfileArgs {
                profile: self.profile.clone(),
                allow_loopback_http: self.loopback_http,
                ..ProfileArgs::default()
            },
        }
    }
}

fn number(word: &'static str, value: &str) -> Result<u32, OptionsError> {
    value.parse().map_err(|_| OptionsError::Value(word, value.to_owned()))
}

/// What a word without value sets or clears.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "suid" => (MountFlags::NOSUID, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "dev" => (MountFlags::NODEV, false),
        "nodev" => (MountFlags::NODEV, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "atime" => (MountFlags::NOATIME, false),
        "noatime" => (MountFlags::NOATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "lazytime" => (MountFlags::LAZYTIME, true),
        "nolazytime" => (MountFlags::LAZYTIME, false),
        _ => return None,
    })
}

/// Words for fstab and mount(8) itself, what every mount of ours does anyway, and what a remount by directory alone repeats
/// from the table of mounts.
fn is_for_others(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "defaults",
        "auto",
        "noauto",
        "user",
        "nouser",
        "users",
        "nousers",
        "owner",
        "noowner",
        "group",
        "nogroup",
        "nofail",
        "_netdev",
        "comment",
        "silent",
        "loud",
        "allow_other",
        "default_permissions",
        "nonempty",
        "user_id",
        "group_id",
    ];
    WORDS.contains(&word) || word.starts_with("x-") || word.starts_with("X-")
}

/// The flags that a mount has.
pub fn flags_of(found: StatVfsMountFlags) -> MountFlags {
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::SYNCHRONOUS, MountFlags::SYNCHRONOUS),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let set = pairs.into_iter().filter(|(had, _)| found.contains(*had));
    set.fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}
