//! The reference: all versions of all files and of all names, and which of them must or may be found.
//!
//! Invariant: an operation makes at most one version of one file, of one attribute, and of the names.

use std::collections::BTreeMap;

use crate::work::{Op, START};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file, by its number.
    File(usize),
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
}

/// All names of a volume.
pub type Tree = BTreeMap<String, Kind>;

/// All versions of one file.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Its contents.
    pub contents: Vec<Vec<u8>>,
    /// Its attribute.
    pub xattrs: Vec<Option<Vec<u8>>>,
}

/// What an operation makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Change,
    /// A file's contents, and with `true` its attributes.
    Sync(usize, bool),
    /// All names.
    SyncNames,
    /// Everything.
    SyncAll,
}

/// The first and the last version that may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Window {
    /// What was synced.
    pub first: usize,
    /// What was written.
    pub last: usize,
}

/// What may be found at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Expect {
    /// Contents of each file.
    pub contents: Vec<Window>,
    /// Attributes of each file.
    pub xattrs: Vec<Window>,
    /// Names.
    pub names: Window,
    /// Only the process died: what it wrote is there in the order in which it wrote it.
    pub in_order: bool,
}

/// The place of an operation in the storage's log: before its first and behind its last change.
pub type Span = (usize, usize);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All files that there ever were.
    pub files: Vec<Versions>,
    /// All versions of the names.
    pub trees: Vec<Tree>,
    /// For each operation: its effect, and the newest versions after it.
    steps: Vec<(Effect, Expect)>,
}

impl Model {
    /// The volume from which workloads begin.
    pub fn start() -> Self {
        let mut model = Self { files: Vec::new(), trees: vec![Tree::new()], steps: Vec::new() };
        for (at, op) in START.iter().enumerate() {
            assert!(model.apply(*op, START.len() + at), "the beginning is feasible");
        }
        for file in &mut model.files {
            file.contents.drain(..file.contents.len() - 1);
            file.xattrs.drain(..file.xattrs.len() - 1);
        }
        model.trees.drain(..model.trees.len() - 1);
        model.steps.clear();
        model
    }

    /// The names as they are.
    pub fn tree(&self) -> &Tree {
        &self.trees[self.trees.len() - 1]
    }

    /// The contents of a file as they are.
    pub fn contents(&self, path: &str) -> Option<&Vec<u8>> {
        self.files[self.file(path)?].contents.last()
    }

    /// Does the operation, number `at` of the workload; `false`: it is not possible, or makes no difference.
    pub fn apply(&mut self, op: Op, at: usize) -> bool {
        let Some(effect) = self.effect(op, at) else { return false };
        self.steps.push((effect, self.newest()));
        true
    }

    /// The newest versions, and nothing else.
    pub fn newest(&self) -> Expect {
        Expect {
            contents: self.files.iter().map(|file| newest(&file.contents)).collect(),
            xattrs: self.files.iter().map(|file| newest(&file.xattrs)).collect(),
            names: newest(&self.trees),
            in_order: false,
        }
    }

    /// What must be found when the process is killed behind `at` of the storage's operations: all that was acknowledged.
    pub fn expect_killed(&self, spans: &[Span], at: usize) -> Expect {
        let mut expect = self.expect(&[], at);
        for ((_, newest), (begin, end)) in self.steps.iter().zip(spans) {
            if *begin < at || *end <= at {
                advance(&mut expect, newest);
            }
            if *end <= at {
                sync(&mut expect, Effect::SyncAll);
            }
        }
        Expect { in_order: true, ..expect }
    }

    /// What may be found when the storage stops behind `at` of its operations.
    pub fn expect(&self, spans: &[Span], at: usize) -> Expect {
        let mut expect = Expect::default();
        expect.contents.resize(self.files.len(), Window::default());
        expect.xattrs.resize(self.files.len(), Window::default());
        for ((effect, newest), (begin, end)) in self.steps.iter().zip(spans) {
            if *begin < at || *end <= at {
                advance(&mut expect, newest);
            }
            if *end <= at {
                sync(&mut expect, *effect);
            }
        }
        expect
    }

    fn effect(&mut self, op: Op, at: usize) -> Option<Effect> {
        match op {
            Op::Fsync(path) => return Some(Effect::Sync(self.file(path)?, true)),
            Op::Fdatasync(path) => return Some(Effect::Sync(self.file(path)?, false)),
            Op::SyncDir(path) => {
                let is_dir = path == "/" || self.tree().get(path) == Some(&Kind::Dir);
                return is_dir.then_some(Effect::SyncNames);
            }
            Op::Sync => return Some(Effect::SyncAll),
            Op::SetXattr(path) => {
                let file = self.file(path)?;
                self.files[file].xattrs.push(Some(written(op, at)));
            }
            Op::RemoveXattr(path) => {
                let file = self.file(path)?;
                self.files[file].xattrs.last()?.as_ref()?;
                self.files[file].xattrs.push(None);
            }
            Op::Rewrap(path) | Op::Sweep(path) => {
                // A file that was never written to has no header.
                self.contents(path).filter(|contents| !contents.is_empty())?;
            }
            Op::Create(_)
            | Op::Mkdir(_)
            | Op::Symlink(_)
            | Op::Link(..)
            | Op::Unlink(_)
            | Op::UnlinkOpen(_)
            | Op::Rmdir(_)
            | Op::Rename(..)
            | Op::RenameOpen(..)
            | Op::Exchange(..) => self.change_names(op)?,
            _ => self.change_contents(op, at)?,
        }
        Some(Effect::Change)
    }

    fn change_contents(&mut self, op: Op, at: usize) -> Option<()> {
        let path = op.file()?;
        let file = self.file(path)?;
        let mut contents = self.contents(path)?.clone();
        let bytes = written(op, at);
        match op {
            Op::Append(..) => contents.extend(bytes),
            Op::Write(_, offset, len) => put(&mut contents, offset as usize, len as usize, Some(&bytes)),
            Op::Size(_, size) => contents.resize(size as usize, 0),
            Op::Allocate(_, offset, len) => {
                let end = (offset + len) as usize;
                let longer = contents.len().max(end);
                contents.resize(longer, 0);
            }
            Op::Punch(_, offset, len) => {
                let end = contents.len().min((offset + len) as usize);
                let start = (offset as usize).min(end);
                contents[start..end].fill(0);
            }
            Op::Zero(_, offset, len) => put(&mut contents, offset as usize, len as usize, None),
            _ => return None,
        }
        self.files[file].contents.push(contents);
        Some(())
    }

    fn change_names(&mut self, op: Op) -> Option<()> {
        let mut tree = self.tree().clone();
        match op {
            Op::Create(path) => {
                let file = Kind::File(self.files.len());
                add(&mut tree, path, file)?;
                self.files.push(Versions { contents: vec![Vec::new()], xattrs: vec![None] });
            }
            Op::Mkdir(path) => add(&mut tree, path, Kind::Dir)?,
            Op::Symlink(path) => add(&mut tree, path, Kind::Link)?,
            Op::Link(from, to) => {
                let file = Kind::File(self.file(from)?);
                add(&mut tree, to, file)?;
            }
            Op::Unlink(path) => {
                tree.remove(path).filter(|kind| *kind != Kind::Dir)?;
            }
            Op::UnlinkOpen(path) => {
                self.file(path)?;
                tree.remove(path);
            }
            Op::Rmdir(path) => {
                let inside = tree.keys().any(|name| name.starts_with(&format!("{path}/")));
                tree.remove(path).filter(|kind| *kind == Kind::Dir && !inside)?;
            }
            Op::Rename(from, to) => rename(&mut tree, from, to)?,
            Op::RenameOpen(from, to) => {
                self.file(to)?;
                rename(&mut tree, from, to)?;
            }
            Op::Exchange(from, to) => {
                let (one, other) = (*tree.get(from)?, *tree.get(to)?);
                if one == other || one == Kind::Dir || other == Kind::Dir {
                    return None;
                }
                tree.insert(from.into(), other);
                tree.insert(to.into(), one);
            }
            _ => return None,
        }
        self.trees.push(tree);
        Some(())
    }

    fn file(&self, path: &str) -> Option<usize> {
        match self.tree().get(path)? {
            Kind::File(file) => Some(*file),
            Kind::Dir | Kind::Link => None,
        }
    }
}

fn newest<T>(versions: &[T]) -> Window {
    Window { first: versions.len() - 1, last: versions.len() - 1 }
}

fn advance(expect: &mut Expect, newest: &Expect) {
    let all = expect.contents.iter_mut().zip(&newest.contents);
    let all = all.chain(expect.xattrs.iter_mut().zip(&newest.xattrs));
    all.chain([(&mut expect.names, &newest.names)]).for_each(|(window, newest)| window.last = newest.last);
}

fn sync(expect: &mut Expect, effect: Effect) {
    let durable = |window: &mut Window| window.first = window.last;
    match effect {
        Effect::Change => {}
        Effect::Sync(file, attributes) => {
            durable(&mut expect.contents[file]);
            if attributes {
                durable(&mut expect.xattrs[file]);
            }
        }
        Effect::SyncNames => durable(&mut expect.names),
        Effect::SyncAll => {
            expect.contents.iter_mut().chain(&mut expect.xattrs).for_each(durable);
            durable(&mut expect.names);
        }
    }
}

/// Adds a name whose directory is there.
fn add(tree: &mut Tree, path: &str, kind: Kind) -> Option<()> {
    let parent = path.split_once('/').map(|(dir, _)| dir);
    let has_parent = parent.is_none_or(|dir| tree.get(dir) == Some(&Kind::Dir));
    if !has_parent || tree.contains_key(path) {
        return None;
    }
    tree.insert(path.into(), kind);
    Some(())
}

fn rename(tree: &mut Tree, from: &str, to: &str) -> Option<()> {
    let kind = *tree.get(from)?;
    let there = tree.get(to).copied();
    let fits = there.is_none_or(|there| there != kind && there != Kind::Dir && kind != Kind::Dir);
    if !fits || to.starts_with(&format!("{from}/")) {
        return None;
    }
    tree.remove(from);
    tree.remove(to);
    add(tree, to, kind)?;
    let inside: Vec<String> =
        tree.keys().filter(|name| name.starts_with(&format!("{from}/"))).cloned().collect();
    for name in inside {
        let kind = tree.remove(&name)?;
        tree.insert(name.replacen(from, to, 1), kind);
    }
    Some(())
}

/// Writes `len` bytes, or zeros.
fn put(contents: &mut Vec<u8>, offset: usize, len: usize, bytes: Option<&[u8]>) {
    let longer = contents.len().max(offset + len);
    contents.resize(longer, 0);
    match bytes {
        Some(bytes) => contents[offset..offset + len].copy_from_slice(bytes),
        None => contents[offset..offset + len].fill(0),
    }
}

/// What operation number `at` writes: bytes that tell their place, and never zero.
pub fn written(op: Op, at: usize) -> Vec<u8> {
    let len = match op {
        Op::Append(_, len) | Op::Write(_, _, len) => len,
        Op::SetXattr(_) => 20,
        _ => 0,
    };
    let mut state = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state as u8) | 1
    };
    (0..len).map(|_| step()).collect()
}
