//! Renaming.
//!
//! Invariant: what the kernel knows follows the names; a file that is replaced while it is open becomes an orphan.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::{RenameFlags, Stat, renameat_with};
use rustix::io::Errno;

use super::EncryptedFs;
use super::anchor::Anchor;
use super::error::FsError;
use super::inode::{Identity, Inode};

/// What a rename does where the new name is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameHow {
    /// It is replaced.
    #[default]
    Replace,
    /// It is an error.
    NoReplace,
    /// The two change places.
    Exchange,
}

/// A name in a directory.
struct Side<'a> {
    parent: Arc<Inode>,
    dir: Anchor,
    name: &'a CStr,
}

impl EncryptedFs {
    /// Moves `name` in `parent` to `new_name` in `new_parent`.
    pub fn rename(
        &self,
        parent: u64,
        name: &CStr,
        new_parent: u64,
        new_name: &CStr,
        how: RenameHow,
    ) -> Result<(), FsError> {
        let from = self.side(self.old_name(parent, name)?, name)?;
        let to = self.side(self.new_name(new_parent, new_name)?, new_name)?;
        let (moved, stat) = self.peek(&from.parent, name)?;
        let there = match self.peek(&to.parent, new_name) {
            Ok(there) => Some(there),
            Err(FsError::Backing(Errno::NOENT)) => None,
            Err(error) => return Err(error),
        };
        // What loses its name keeps its descriptor.
        let known = there.as_ref().and_then(|(inode, _)| inode.as_ref());
        [moved.as_ref(), known].into_iter().flatten().try_for_each(|inode| self.fd(inode).map(drop))?;
        self.moving(|| match there {
            // Two names of one object: nothing moves, or it is an error.
            Some((_, other)) if Identity::of(&other) == Identity::of(&stat) => rename(&from, &to, how),
            Some((other, _)) if how == RenameHow::Exchange => {
                rename(&from, &to, how)?;
                follow(moved.as_ref(), &to);
                follow(other.as_ref(), &from);
                Ok(())
            }
            Some((Some(other), stat)) if how == RenameHow::Replace => {
                self.replace(&from, &to, &other, &stat)?;
                follow(moved.as_ref(), &to);
                Ok(())
            }
            _ => {
                rename(&from, &to, how)?;
                follow(moved.as_ref(), &to);
                Ok(())
            }
        })
    }

    fn side<'a>(&self, parent: Arc<Inode>, name: &'a CStr) -> Result<Side<'a>, FsError> {
        let dir = self.fd(&parent)?;
        Ok(Side { parent, dir, name })
    }

    /// Renames over something that the kernel knows.
    fn replace(
        &self,
        from: &Side<'_>,
        to: &Side<'_>,
        other: &Arc<Inode>,
        stat: &Stat,
    ) -> Result<(), FsError> {
        let orphan = self.save_orphan(other, stat, &to.dir, to.name)?;
        if let Err(error) = rename(from, to, RenameHow::Replace) {
            if let Some(orphan) = orphan {
                self.drop_orphan(&orphan);
            }
            return Err(error);
        }
        other.lost_name(&to.parent, to.name);
        match orphan {
            Some(orphan) => self.now_orphan(other, &orphan),
            None if other.is_dir() => self.table.object_gone(other),
            None => self.gone_without_names(other),
        }
        Ok(())
    }
}

fn rename(from: &Side<'_>, to: &Side<'_>, how: RenameHow) -> Result<(), FsError> {
    let flags = match how {
        RenameHow::Replace => RenameFlags::empty(),
        RenameHow::NoReplace => RenameFlags::NOREPLACE,
        RenameHow::Exchange => RenameFlags::EXCHANGE,
    };
    Ok(renameat_with(&from.dir, from.name, &to.dir, to.name, flags)?)
}

fn follow(inode: Option<&Arc<Inode>>, to: &Side<'_>) {
    if let Some(inode) = inode {
        inode.moved_to(&to.parent, to.name);
    }
}
