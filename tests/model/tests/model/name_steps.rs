//! Steps that make, link, move and remove names, and change attributes.
//!
//! Invariant: the reference decides what is expected before the filesystem under test is asked.

use std::collections::BTreeMap;

use sidecar::fs::{NewMode, OpenHow, RenameHow, SetAttr, SetTime, Time};

use crate::real::{cstr, me};
use crate::reference::{Kind, Node, NodeId, Outcome, Reference};
use crate::steps::{How, Step};
use crate::world::{Verdict, World, errno, name, owner};

impl World {
    /// Whether the step was one of these.
    pub fn name_step(&mut self, step: &Step) -> Result<bool, String> {
        match *step {
            Step::Create { dir, name: n, mode, exclusive, truncate } => {
                self.create((dir, name(n)), mode, exclusive, truncate)?;
            }
            Step::Mkdir { dir, name: n, mode } => self.mkdir((dir, name(n)), mode)?,
            Step::Mknod { dir, name: n, fifo } => self.mknod((dir, name(n)), fifo)?,
            Step::Symlink { dir, name: n, target } => self.symlink((dir, name(n)), target)?,
            Step::Link { node, dir, name: n } => self.link(node, (dir, name(n)))?,
            Step::Unlink { dir, name: n } => self.remove((dir, n), false)?,
            Step::Rmdir { dir, name: n } => self.remove((dir, n), true)?,
            Step::Rename { dir, name: n, to_dir, to_name, how } => {
                self.rename((dir, n), (to_dir, to_name), how)?;
            }
            Step::SetXattr { node, name, value, flags } => self.set_xattr(node, name, value, flags)?,
            Step::RemoveXattr { node, name } => self.remove_xattr(node, name)?,
            Step::Chmod { node, mode } => self.chmod(node, mode)?,
            Step::Chown { node, uid, gid } => self.chown(node, uid, gid)?,
            Step::SetTime { node, seconds } => self.set_time(node, seconds)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn create(&mut self, (dir, name): (u8, &str), mode: u32, exclusive: bool, truncate: bool) -> Verdict {
        let dir = self.reference.pick_dir(dir);
        let there = self.reference.entry(dir, name);
        if !exclusive && there.is_some_and(|node| !self.reference.node(node).is_file()) {
            return Ok(()); // The kernel asks for no such thing.
        }
        let mode = self.usable(mode, false);
        let owner = owner();
        let expected = Reference::check_new(dir, name).and_then(|()| self.reference.check_served());
        let expected = expected.and_then(|()| match there {
            Some(_) if exclusive => Err(libc::EEXIST),
            Some(node) => Ok(node),
            None => self.reference.make(dir, name, Kind::File(Vec::new()), mode, owner),
        });
        let parent = self.real.id(&self.reference, dir)?;
        let how = OpenHow { write: true, truncate, clear_privileges: false };
        let new = NewMode { mode, umask: 0 };
        let found = errno(self.real.fs.create(parent, &cstr(name), new, me(), exclusive, how));
        self.same(&expected.map(drop), &found.map(drop))?;
        if let (Ok(node), Ok(entry)) = (expected, found) {
            if truncate && there.is_some() {
                self.reference.truncate(node, 0, false).map_err(|errno| format!("{errno}"))?;
            }
            self.real.learn(node, &entry)?;
            self.add_handle(node, entry.id, true);
        }
        Ok(())
    }

    /// Something new, which both have or neither.
    fn made(&mut self, expected: Outcome<NodeId>, found: Outcome<sidecar::fs::Entry>) -> Verdict {
        self.same(&expected.map(drop), &found.map(drop))?;
        match (expected, found) {
            (Ok(node), Ok(entry)) => self.real.learn(node, &entry),
            _ => Ok(()),
        }
    }

    fn mkdir(&mut self, (dir, name): (u8, &str), mode: u32) -> Verdict {
        let dir = self.reference.pick_dir(dir);
        let mode = self.usable(mode & 0o1777, true);
        let parent = self.real.id(&self.reference, dir)?;
        let owner = owner();
        let expected = self.reference.make(dir, name, Kind::Directory(BTreeMap::new()), mode, owner);
        let found = errno(self.real.fs.mkdir(parent, &cstr(name), NewMode { mode, umask: 0 }, me()));
        self.made(expected, found)
    }

    fn mknod(&mut self, (dir, name): (u8, &str), fifo: bool) -> Verdict {
        let dir = self.reference.pick_dir(dir);
        let parent = self.real.id(&self.reference, dir)?;
        let (kind, bits) =
            if fifo { (Kind::Fifo, libc::S_IFIFO) } else { (Kind::File(vec![]), libc::S_IFREG) };
        let owner = owner();
        let expected = self.reference.make(dir, name, kind, 0o640, owner);
        let mode = NewMode { mode: bits | 0o660, umask: 0o020 };
        let found = errno(self.real.fs.mknod(parent, &cstr(name), mode, 0, me()));
        self.made(expected, found)
    }

    fn symlink(&mut self, (dir, name): (u8, &str), target: u8) -> Verdict {
        let dir = self.reference.pick_dir(dir);
        let parent = self.real.id(&self.reference, dir)?;
        let target = "../t/".repeat(usize::from(target % 50)) + "end";
        let owner = owner();
        let expected = self.reference.make(dir, name, Kind::Symlink(target.clone()), 0o777, owner);
        let found = errno(self.real.fs.symlink(parent, &cstr(name), &cstr(&target), me()));
        self.made(expected, found)
    }

    fn link(&mut self, node: u8, (dir, name): (u8, &str)) -> Verdict {
        let Some(node) = self.reference.pick(node, |node| !node.names.is_empty()) else { return Ok(()) };
        let dir = self.reference.pick_dir(dir);
        let (id, parent) = (self.real.id(&self.reference, node)?, self.real.id(&self.reference, dir)?);
        let expected = self.reference.link(node, dir, name).map(|()| node);
        let found = errno(self.real.fs.link(id, parent, &cstr(name)));
        self.made(expected, found)
    }

    fn remove(&mut self, at: (u8, u8), directory: bool) -> Verdict {
        let (dir, name) = self.entry(at, |node| node.is_dir() == directory);
        let name = &*name;
        let parent = self.real.id(&self.reference, dir)?;
        self.know(dir, name)?;
        let (expected, found) = if directory {
            (self.reference.rmdir(dir, name), errno(self.real.fs.rmdir(parent, &cstr(name))))
        } else {
            (self.reference.unlink(dir, name), errno(self.real.fs.unlink(parent, &cstr(name))))
        };
        self.same(&expected, &found)
    }

    fn rename(&mut self, from: (u8, u8), to: (u8, u8), how: How) -> Verdict {
        let (dir, name) = self.entry(from, |_| true);
        let (to_dir, to_name) = match how {
            How::Exchange => self.entry(to, |_| true),
            _ => (self.reference.pick_dir(to.0), crate::world::name(to.1).to_owned()),
        };
        let (from, to) = ((dir, &*name), (to_dir, &*to_name));
        let (parent, to_parent) =
            (self.real.id(&self.reference, dir)?, self.real.id(&self.reference, to_dir)?);
        self.know(dir, from.1)?;
        self.know(to_dir, to.1)?;
        let expected = self.reference.rename((dir, from.1), (to_dir, to.1), how);
        let real_how = match how {
            How::Replace => RenameHow::Replace,
            How::NoReplace => RenameHow::NoReplace,
            How::Exchange => RenameHow::Exchange,
        };
        let (old, new) = (cstr(from.1), cstr(to.1));
        let found = errno(self.real.fs.rename(parent, &old, to_parent, &new, real_how));
        self.same(&expected, &found)
    }

    /// A name that there is, of an object for which `wanted` holds; sometimes any other name.
    fn entry(&self, (dir, number): (u8, u8), wanted: impl Fn(&Node) -> bool) -> (NodeId, String) {
        let nodes = self.reference.nodes.iter().filter(|node| wanted(node));
        let all: Vec<_> = nodes.flat_map(|node| &node.names).collect();
        if number < 200 && !all.is_empty() {
            return all[(usize::from(dir) * 256 + usize::from(number)) % all.len()].clone();
        }
        (self.reference.pick_dir(dir), name(number).to_owned())
    }

    /// The kernel looks a name up before it changes what it stands for.
    fn know(&mut self, dir: NodeId, name: &str) -> Verdict {
        match self.reference.entry(dir, name) {
            Some(node) => self.real.id(&self.reference, node).map(drop),
            None => Ok(()),
        }
    }

    fn set_xattr(&mut self, node: u8, name: u8, value: u8, flags: u32) -> Verdict {
        let Some(node) = self.reference.pick(node, |node| node.is_file() || node.is_dir()) else {
            return Ok(());
        };
        let id = self.real.id(&self.reference, node)?;
        let (name, value) = (xattr(name), vec![value; usize::from(value)]);
        let found = errno(self.real.fs.setxattr(id, &cstr(name), &value, flags, false));
        let expected = self.reference.set_xattr(node, name, value, flags);
        self.same(&expected, &found)
    }

    fn remove_xattr(&mut self, node: u8, name: u8) -> Verdict {
        let Some(node) = self.reference.pick(node, |node| node.is_file() || node.is_dir()) else {
            return Ok(());
        };
        let id = self.real.id(&self.reference, node)?;
        let found = errno(self.real.fs.removexattr(id, &cstr(xattr(name))));
        let expected = self.reference.remove_xattr(node, xattr(name));
        self.same(&expected, &found)
    }

    fn chmod(&mut self, node: u8, mode: u32) -> Verdict {
        let Some(node) = self.reference.pick(node, |node| !matches!(node.kind, Kind::Symlink(_))) else {
            return Ok(());
        };
        let mode = self.usable(mode, self.reference.node(node).is_dir());
        let found = self.set_attr(node, &SetAttr { mode: Some(mode), ..SetAttr::default() })?;
        self.reference.nodes[node].mode = mode;
        self.same(&Ok(mode), &found.map(|attr| attr.mode & 0o7777))
    }

    fn chown(&mut self, node: u8, uid: Option<u32>, gid: Option<u32>) -> Verdict {
        let wanted = self.reference.pick(node, |node| node.is_file() || node.is_dir());
        let Some(node) = wanted.filter(|_| !self.native || crate::real::is_root()) else { return Ok(()) };
        let found = self.set_attr(node, &SetAttr { uid, gid, ..SetAttr::default() })?;
        self.reference.chown(node, uid, gid);
        let node = self.reference.node(node);
        self.same(&Ok((node.uid, node.gid)), &found.map(|attr| (attr.uid, attr.gid)))
    }

    fn set_time(&mut self, node: u8, seconds: i64) -> Verdict {
        let Some(node) = self.reference.pick(node, |_| true) else { return Ok(()) };
        let time = Time { seconds, nanoseconds: 500 };
        let change = SetAttr { mtime: SetTime::To(time), atime: SetTime::To(time), ..SetAttr::default() };
        let found = self.set_attr(node, &change)?;
        self.reference.nodes[node].mtime = Some(seconds);
        self.same(&Ok((time, time)), &found.map(|attr| (attr.mtime, attr.atime)))
    }
}

fn xattr(number: u8) -> &'static str {
    match number {
        240.. => "user.cofferdam.owner",
        number => ["user.a", "user.b", "user.cofferdam"][usize::from(number) % 3],
    }
}
