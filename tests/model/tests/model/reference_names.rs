//! The reference filesystem's names: made, linked, moved and removed.
//!
//! Invariant: an object's `names` and the entries of directories say the same.

use std::collections::BTreeMap;

use crate::reference::{Kind, NodeId, Outcome, ROOT, Reference, blank};
use crate::steps::How;

const SET_GID: u32 = 0o2000;

impl Reference {
    fn entries(&self, dir: NodeId) -> &BTreeMap<String, NodeId> {
        match &self.nodes[dir].kind {
            Kind::Directory(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    pub fn entry(&self, dir: NodeId, name: &str) -> Option<NodeId> {
        self.entries(dir).get(name).copied()
    }

    fn is_hidden(dir: NodeId, name: &str) -> bool {
        name.starts_with(".cofferdam") || (dir == ROOT && name == "lost+found")
    }

    pub fn check_old(dir: NodeId, name: &str) -> Outcome<()> {
        if Self::is_hidden(dir, name) { Err(libc::ENOENT) } else { Ok(()) }
    }

    pub fn check_new(dir: NodeId, name: &str) -> Outcome<()> {
        if Self::is_hidden(dir, name) { Err(libc::EPERM) } else { Ok(()) }
    }

    fn old(&self, dir: NodeId, name: &str) -> Outcome<NodeId> {
        Self::check_old(dir, name)?;
        self.entry(dir, name).ok_or(libc::ENOENT)
    }

    fn attach(&mut self, dir: NodeId, name: &str, id: NodeId) {
        if let Kind::Directory(entries) = &mut self.nodes[dir].kind {
            entries.insert(name.to_owned(), id);
        }
        self.nodes[dir].mtime = None;
        self.nodes[id].names.insert((dir, name.to_owned()));
    }

    fn detach(&mut self, dir: NodeId, name: &str) -> NodeId {
        let Kind::Directory(entries) = &mut self.nodes[dir].kind else { panic!("no directory") };
        let id = entries.remove(name).unwrap();
        self.nodes[dir].mtime = None;
        self.nodes[id].names.remove(&(dir, name.to_owned()));
        id
    }

    /// Makes an object; a set-group-id directory hands its group on.
    pub fn make(
        &mut self,
        dir: NodeId,
        name: &str,
        kind: Kind,
        mode: u32,
        owner: (u32, u32),
    ) -> Outcome<NodeId> {
        Self::check_new(dir, name)?;
        if self.entry(dir, name).is_some() {
            return Err(libc::EEXIST);
        }
        let parent = &self.nodes[dir];
        let inherits = parent.mode & SET_GID != 0;
        let mut node = blank(kind);
        (node.uid, node.gid) = (owner.0, if inherits { parent.gid } else { owner.1 });
        node.mode = mode | if inherits && node.is_dir() { SET_GID } else { 0 };
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.attach(dir, name, id);
        Ok(id)
    }

    pub fn link(&mut self, id: NodeId, dir: NodeId, name: &str) -> Outcome<()> {
        Self::check_new(dir, name)?;
        if self.entry(dir, name).is_some() {
            return Err(libc::EEXIST);
        }
        if self.nodes[id].is_dir() {
            return Err(libc::EPERM);
        }
        self.attach(dir, name, id);
        Ok(())
    }

    pub fn unlink(&mut self, dir: NodeId, name: &str) -> Outcome<()> {
        let id = self.old(dir, name)?;
        if self.nodes[id].is_dir() {
            return Err(libc::EISDIR);
        }
        self.detach(dir, name);
        Ok(())
    }

    pub fn rmdir(&mut self, dir: NodeId, name: &str) -> Outcome<()> {
        let id = self.old(dir, name)?;
        if !self.nodes[id].is_dir() {
            return Err(libc::ENOTDIR);
        }
        if !self.entries(id).is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.detach(dir, name);
        Ok(())
    }

    /// Whether `dir` is `top` or lies below it.
    fn is_within(&self, dir: NodeId, top: NodeId) -> bool {
        let mut at = dir;
        loop {
            if at == top {
                return true;
            }
            let Some((parent, _)) = self.nodes[at].names.first() else { return false };
            at = *parent;
        }
    }

    pub fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str), how: How) -> Outcome<()> {
        Self::check_old(from.0, from.1)?;
        Self::check_new(to.0, to.1)?;
        let moved = self.old(from.0, from.1)?;
        let there = self.entry(to.0, to.1);
        match (how, there) {
            (How::NoReplace, Some(_)) => return Err(libc::EEXIST),
            (How::Exchange, None) => return Err(libc::ENOENT),
            _ => {}
        }
        let exchanges = matches!(how, How::Exchange);
        if self.is_within(to.0, moved) {
            return Err(libc::EINVAL);
        }
        if there.is_some_and(|there| self.is_within(from.0, there)) {
            return Err(if exchanges { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        if there == Some(moved) {
            return Ok(());
        }
        if let (Some(there), false) = (there, exchanges) {
            self.check_replaced(moved, there)?;
        }
        self.detach(from.0, from.1);
        if there.is_some() {
            self.detach(to.0, to.1);
        }
        self.attach(to.0, to.1, moved);
        if let (Some(there), true) = (there, exchanges) {
            self.attach(from.0, from.1, there);
        }
        Ok(())
    }

    fn check_replaced(&self, moved: NodeId, there: NodeId) -> Outcome<()> {
        match (self.nodes[moved].is_dir(), self.nodes[there].is_dir()) {
            (true, false) => Err(libc::ENOTDIR),
            (false, true) => Err(libc::EISDIR),
            (true, true) if !self.entries(there).is_empty() => Err(libc::ENOTEMPTY),
            _ => Ok(()),
        }
    }
}
