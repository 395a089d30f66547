//! Extended attributes.
//!
//! Invariant: `user.cofferdam.*` and `security.cofferdam.*` are ours: nobody sees, sets or removes it. With virtual ownership there are no ACLs, because
//! the backing storage would apply them to the files as they lie there.

use std::ffi::CStr;

use contract::gate::CHALLENGE_XATTR_PREFIX;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::error::FsError;
use super::names::is_own_xattr;
use super::types::ROOT;
use super::{EncryptedFs, proc_path};

/// The largest value and the largest list of names that Linux knows.
const MOST: usize = 1 << 16;

impl EncryptedFs {
    /// The value of an attribute. On the root, the gate's challenge is answered.
    pub fn getxattr(&self, id: u64, name: &CStr) -> Result<Vec<u8>, FsError> {
        if let Some(answer) = self.answer(id, name) {
            return Ok(answer);
        }
        if is_own_xattr(name) {
            return Err(FsError::Refused(Errno::NODATA));
        }
        self.check_acl(name)?;
        let fd = self.fd(&self.inode(id)?)?;
        let mut value = vec![0; MOST];
        let len = rustix::fs::getxattr(proc_path(&fd), name, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    }

    /// Sets an attribute; `flags` as in `setxattr(2)`. `clear_set_gid`: setting an access ACL takes set-group-id away, because
    /// the caller is not in the file's group.
    pub fn setxattr(
        &self,
        id: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
        clear_set_gid: bool,
    ) -> Result<(), FsError> {
        self.check_writable()?;
        if is_own_xattr(name) {
            return Err(FsError::Refused(Errno::PERM));
        }
        self.check_acl(name)?;
        let inode = self.inode(id)?;
        let fd = self.fd(&inode)?;
        rustix::fs::setxattr(proc_path(&fd), name, value, XattrFlags::from_bits_retain(flags))?;
        if clear_set_gid {
            let mode = rustix::fs::fstat(&fd)?.st_mode & 0o7777;
            self.set_owner(&inode, &fd, None, None, Some(mode & !0o2000))?;
        }
        Ok(())
    }

    /// The names of all attributes, each with its NUL.
    pub fn listxattr(&self, id: u64) -> Result<Vec<u8>, FsError> {
        let fd = self.fd(&self.inode(id)?)?;
        let mut names = vec![0; MOST];
        let len = rustix::fs::listxattr(proc_path(&fd), &mut names[..])?;
        let hidden = |name: &[u8]| {
            let name = CStr::from_bytes_with_nul(name);
            name.is_ok_and(|name| is_own_xattr(name) || self.check_acl(name).is_err())
        };
        let names = names[..len].split_inclusive(|byte| *byte == 0);
        Ok(names.filter(|name| !hidden(name)).flatten().copied().collect())
    }

    /// Removes an attribute.
    pub fn removexattr(&self, id: u64, name: &CStr) -> Result<(), FsError> {
        self.check_writable()?;
        if is_own_xattr(name) {
            return Err(FsError::Refused(Errno::NODATA));
        }
        self.check_acl(name)?;
        let fd = self.fd(&self.inode(id)?)?;
        Ok(rustix::fs::removexattr(proc_path(&fd), name)?)
    }

    fn answer(&self, id: u64, name: &CStr) -> Option<Vec<u8>> {
        let nonce = name.to_str().ok()?.strip_prefix(CHALLENGE_XATTR_PREFIX)?;
        if id != ROOT {
            return None;
        }
        self.challenge.get()?(nonce)
    }

    fn check_acl(&self, name: &CStr) -> Result<(), FsError> {
        if !self.native() && name.to_bytes().starts_with(b"system.posix_acl_") {
            return Err(FsError::Refused(Errno::OPNOTSUPP));
        }
        Ok(())
    }
}
