//! Which names an application may see and make.
//!
//! Invariant: a name that begins with `.cofferdam` does not exist for applications, in any directory; neither do the storage's
//! own entries in the root.

use std::ffi::CStr;

use contract::names::{RESERVED_NAME_PREFIX, STORAGE_ENTRIES};
use rustix::io::Errno;

use super::error::FsError;

/// The extended attributes that are ours.
const OWN_XATTRS: [&[u8]; 2] = [b"user.cofferdam.", b"security.cofferdam."];

/// The names of a volume that are hidden.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    storage: Vec<Vec<u8>>,
}

impl Hidden {
    /// `lost+found` and `storage_entries` in the root, and what is ours everywhere.
    pub fn new(storage_entries: &[String]) -> Self {
        let fixed = STORAGE_ENTRIES.iter().map(|name| name.as_bytes().to_vec());
        let storage = fixed.chain(storage_entries.iter().map(|name| name.clone().into_bytes())).collect();
        Self { storage }
    }

    /// Whether `name` is hidden in a directory; `in_root`: in the root.
    pub fn is_hidden(&self, name: &CStr, in_root: bool) -> bool {
        let name = name.to_bytes();
        name.starts_with(RESERVED_NAME_PREFIX.as_bytes())
            || (in_root && self.storage.iter().any(|entry| entry == name))
    }

    /// A name that is looked up: hidden ones do not exist.
    pub fn check_old(&self, name: &CStr, in_root: bool) -> Result<(), FsError> {
        check_component(name)?;
        if self.is_hidden(name, in_root) { Err(FsError::Refused(Errno::NOENT)) } else { Ok(()) }
    }

    /// A name that is made: hidden ones are refused.
    pub fn check_new(&self, name: &CStr, in_root: bool) -> Result<(), FsError> {
        check_component(name)?;
        if self.is_hidden(name, in_root) { Err(FsError::Refused(Errno::PERM)) } else { Ok(()) }
    }
}

/// One component of a path, and a real one.
fn check_component(name: &CStr) -> Result<(), FsError> {
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(FsError::Refused(Errno::INVAL));
    }
    Ok(())
}

/// Whether an extended attribute is ours.
pub fn is_own_xattr(name: &CStr) -> bool {
    OWN_XATTRS.iter().any(|prefix| name.to_bytes().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_hidden_everywhere_and_the_storages_in_the_root_only() {
        let hidden = Hidden::new(&[".snapshot".into()]);
        for in_root in [true, false] {
            assert!(hidden.is_hidden(c".cofferdam", in_root));
            assert!(hidden.is_hidden(c".cofferdam-x", in_root));
            assert!(!hidden.is_hidden(c"cofferdam", in_root));
            assert_eq!(hidden.is_hidden(c"lost+found", in_root), in_root);
            assert_eq!(hidden.is_hidden(c".snapshot", in_root), in_root);
        }
    }

    #[test]
    fn a_hidden_name_is_not_found_and_cannot_be_made() {
        let hidden = Hidden::default();
        let errno = |result: Result<(), FsError>| result.err().map(|error| error.errno());
        assert_eq!(errno(hidden.check_old(c".cofferdam", false)), Some(libc::ENOENT));
        assert_eq!(errno(hidden.check_new(c".cofferdam", false)), Some(libc::EPERM));
        for name in [c".", c"..", c"a/b", c""] {
            assert_eq!(errno(hidden.check_old(name, false)), Some(libc::EINVAL));
        }
        assert_eq!(errno(hidden.check_new(c"file", true)), None);
    }
}
