//! Who owns a file: the backing storage's word, or an attribute of ours.
//!
//! Invariant: with virtual ownership the backing file stays readable and writable for this process whatever mode the
//! application gives it; the application sees its own mode and owner.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::anchor::Anchor;
use super::error::FsError;
use super::inode::Inode;
use super::types::Caller;
use super::{EncryptedFs, proc_path};

/// The attribute, 16 bytes: version 1, uid, gid, permission bits; each 4 bytes, little-endian.
const OWNER: &std::ffi::CStr = c"user.cofferdam.owner";
const VERSION: u32 = 1;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// Owner and permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// `0..=0o7777`.
    pub mode: u32,
}

impl Owner {
    /// What the backing storage says.
    pub fn of(stat: &Stat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 }
    }

    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (place, value) in
            bytes.as_chunks_mut::<4>().0.iter_mut().zip([VERSION, self.uid, self.gid, self.mode])
        {
            *place = value.to_le_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let words = <&[u8; 16]>::try_from(bytes).ok()?.as_chunks::<4>().0;
        let [version, uid, gid, mode] = [0, 1, 2, 3].map(|word| u32::from_le_bytes(words[word]));
        (version == VERSION && mode <= 0o7777).then_some(Self { uid, gid, mode })
    }

    /// The mode without set-user-id, and without set-group-id of a group-executable file.
    pub fn without_privileges(self) -> Self {
        let mut mode = self.mode & !SET_UID;
        if mode & GROUP_EXECUTE != 0 {
            mode &= !SET_GID;
        }
        Self { mode, ..self }
    }
}

/// Fails where the storage has no place for the attribute.
pub fn probe(dir: BorrowedFd<'_>) -> Result<(), FsError> {
    let path = proc_path(dir);
    rustix::fs::setxattr(&*path, c"user.cofferdam.probe", b"1", XattrFlags::empty())?;
    Ok(rustix::fs::removexattr(&*path, c"user.cofferdam.probe")?)
}

fn read(fd: impl AsFd) -> Result<Option<Owner>, FsError> {
    let mut bytes = [0; 17];
    match rustix::fs::getxattr(&*proc_path(fd), OWNER, &mut bytes[..]) {
        Ok(len) => Ok(Owner::decode(&bytes[..len])),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl EncryptedFs {
    /// Owner and mode as the application sees them.
    pub(super) fn owner(&self, inode: &Arc<Inode>, stat: &Stat) -> Result<Owner, FsError> {
        let backing = Owner::of(stat);
        if self.native() {
            return Ok(backing);
        }
        if inode.is_file() || inode.is_dir() {
            return Ok(read(self.fd(inode)?)?.unwrap_or(backing));
        }
        // Nothing else can carry the attribute: what lies in a directory belongs to its owner.
        let Some(parent) = inode.parent() else { return Ok(backing) };
        let stat = rustix::fs::fstat(self.fd(&parent)?)?;
        let parent = self.owner(&parent, &stat)?;
        Ok(Owner { uid: parent.uid, gid: parent.gid, ..backing })
    }

    /// Changes owner and mode.
    pub(super) fn set_owner(
        &self,
        inode: &Arc<Inode>,
        fd: &Anchor,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> Result<(), FsError> {
        let mode = mode.map(|mode| mode & 0o7777);
        if self.native() {
            return set_native(inode, fd, uid, gid, mode);
        }
        let stat = rustix::fs::fstat(fd)?;
        let old = self.owner(inode, &stat)?;
        let mut new = Owner { uid: uid.unwrap_or(old.uid), gid: gid.unwrap_or(old.gid), ..old };
        if (uid.is_some() || gid.is_some()) && !inode.is_dir() {
            new = new.without_privileges();
        }
        new.mode = mode.unwrap_or(new.mode);
        if !inode.is_file() && !inode.is_dir() {
            let same = (new.uid, new.gid) == (old.uid, old.gid);
            return match mode {
                _ if !same => Err(FsError::Refused(Errno::PERM)),
                Some(mode) => change_mode(fd, mode),
                None => Ok(()),
            };
        }
        write(fd, new)
    }

    /// Gives a new object its owner; `parent` is the directory that it was made in. With `Exact` the mode is made so too,
    /// whatever this process's umask took away.
    pub(super) fn give(
        &self,
        parent: &Arc<Inode>,
        inode_fd: impl AsFd,
        is_dir: bool,
        caller: Caller,
        mode: GivenMode,
    ) -> Result<(), FsError> {
        let parent_fd = self.fd(parent)?;
        let stat = rustix::fs::fstat(&parent_fd)?;
        let parent = self.owner(parent, &stat)?;
        let inherits = parent.mode & SET_GID != 0;
        if self.native() {
            let made = rustix::fs::fstat(&inode_fd)?;
            let gid = if inherits { made.st_gid } else { caller.gid };
            return give_native(inode_fd, &made, Caller { uid: caller.uid, gid }, is_dir, mode);
        }
        let gid = if inherits { parent.gid } else { caller.gid };
        let mode = mode.bits() | if inherits && is_dir { SET_GID } else { 0 };
        write(inode_fd, Owner { uid: caller.uid, gid, mode: mode & 0o7777 })
    }

    /// Gives a new symbolic link, which has no mode, its owner.
    pub(super) fn give_link(
        &self,
        parent: &Arc<Inode>,
        link: impl AsFd,
        caller: Caller,
    ) -> Result<(), FsError> {
        let parent_fd = self.fd(parent)?;
        let inherits = rustix::fs::fstat(&parent_fd)?.st_mode & SET_GID != 0;
        let gid = (!inherits).then_some(caller.gid);
        change_owner(link, Some(caller.uid), gid)
    }

    /// A file that is written loses its privileges.
    pub(super) fn clear_privileges(&self, inode: &Arc<Inode>) -> Result<(), FsError> {
        let fd = self.fd(inode)?;
        let stat = rustix::fs::fstat(&fd)?;
        let old = self.owner(inode, &stat)?;
        let new = old.without_privileges();
        if new != old {
            self.set_owner(inode, &fd, None, None, Some(new.mode))?;
            // The kernel looks at the mode that it remembers, also after a write that changed it.
            self.attributes_changed(inode);
        }
        Ok(())
    }
}

fn write(fd: impl AsFd, owner: Owner) -> Result<(), FsError> {
    Ok(rustix::fs::setxattr(&*proc_path(fd), OWNER, &owner.encode(), XattrFlags::empty())?)
}

fn change_mode(fd: impl AsFd, mode: u32) -> Result<(), FsError> {
    Ok(rustix::fs::chmod(&*proc_path(fd), Mode::from_raw_mode(mode))?)
}

fn change_owner(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), FsError> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?)
}

fn set_native(
    inode: &Inode,
    fd: impl AsFd,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
) -> Result<(), FsError> {
    if uid.is_some() || gid.is_some() {
        change_owner(&fd, uid, gid)?;
    }
    match mode {
        Some(_) if inode.kind == rustix::fs::FileType::Symlink => Err(FsError::Refused(Errno::OPNOTSUPP)),
        Some(mode) => change_mode(fd, mode),
        None => Ok(()),
    }
}

/// The mode of a new object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenMode {
    /// These bits.
    Exact(u32),
    /// What the backing storage made of these bits by the directory's default ACL.
    Inherited(u32),
}

impl GivenMode {
    /// The bits that were asked for.
    pub fn bits(self) -> u32 {
        match self {
            Self::Exact(mode) | Self::Inherited(mode) => mode,
        }
    }
}

/// The backing storage made the object ours; a change of owner takes privileges away, so that the mode comes last.
fn give_native(
    fd: impl AsFd,
    made: &Stat,
    caller: Caller,
    is_dir: bool,
    mode: GivenMode,
) -> Result<(), FsError> {
    let there = made.st_mode & 0o7777;
    let mut stays = there;
    if (made.st_uid, made.st_gid) != (caller.uid, caller.gid) {
        change_owner(&fd, Some(caller.uid), Some(caller.gid))?;
        if !is_dir {
            stays &= !(SET_UID | SET_GID);
        }
    }
    let inherited = if is_dir { there & SET_GID } else { 0 };
    let wanted = match mode {
        GivenMode::Exact(mode) => mode | inherited,
        GivenMode::Inherited(mode) => there | (mode & (SET_UID | SET_GID)),
    };
    if wanted == stays { Ok(()) } else { change_mode(fd, wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_its_attribute_and_other_bytes_are_none() {
        let owner = Owner { uid: 1000, gid: 2000, mode: 0o2755 };
        assert_eq!(Owner::decode(&owner.encode()), Some(owner));
        assert_eq!(Owner::decode(&owner.encode()[..15]), None);
        assert_eq!(Owner::decode(&[0; 16]), None);
        assert_eq!(Owner::decode(&Owner { mode: 0o10000, ..owner }.encode()), None);
    }

    #[test]
    fn set_group_id_stays_where_it_means_locking() {
        let cleared = |mode| Owner { uid: 0, gid: 0, mode }.without_privileges().mode;
        assert_eq!(cleared(0o6755), 0o755);
        assert_eq!(cleared(0o6745), 0o2745);
        assert_eq!(cleared(0o644), 0o644);
    }
}
