//! Makes, moves, links, replaces and removes, with the syncs that make names durable.
//!
//! Invariant: an object is at one of the places where it was since its last promise, whole; one that moved is never at both
//! places, and a file that is replaced is never gone.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Actor, Findings, Post, bytes};
use crate::dice::pattern;

/// Objects that are kept; then one goes for each that comes.
const MOST: usize = 60;
/// Files that are replaced again and again.
const TARGETS: usize = 4;

/// What stands under a name. The number tells its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    File(u64),
    /// A directory with a file `inside`.
    Directory(u64),
    Symlink(String),
}

struct Object {
    kind: Kind,
    /// From the last promise on; `None` is nowhere.
    places: Vec<Option<PathBuf>>,
}

impl Object {
    fn is_at(&mut self, place: Option<PathBuf>) {
        self.places.push(place);
    }

    fn promise(&mut self) {
        self.places.drain(..self.places.len() - 1);
    }
}

/// See the module.
pub struct Names {
    post: Post,
    next: u64,
    objects: Vec<Object>,
    /// What each target may hold.
    targets: Vec<Vec<u64>>,
}

impl Names {
    pub fn new(post: Post) -> Result<Self> {
        for name in ["a", "b"] {
            std::fs::create_dir_all(post.dir.join(name))?;
        }
        let names = Self { post, next: 0, objects: Vec::new(), targets: vec![vec![0]; TARGETS] };
        for target in 0..TARGETS {
            std::fs::write(names.target(target), data(0))?;
        }
        Ok(names)
    }

    fn target(&self, number: usize) -> PathBuf {
        self.post.dir.join(format!("target-{number}"))
    }

    fn fresh(&mut self) -> (u64, PathBuf) {
        self.next += 1;
        let dir = if self.post.dice.chance(50) { "a" } else { "b" };
        (self.next, self.post.dir.join(dir).join(format!("n{}", self.next)))
    }

    fn sync_parent(path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), bytes::sync_dir)
    }

    fn make(&mut self) -> io::Result<()> {
        let (number, path) = self.fresh();
        let kind = match self.post.dice.below(4) {
            0 => Kind::Symlink(format!("where/{number}")),
            1 | 2 => Kind::Directory(number),
            _ => Kind::File(number),
        };
        let place = Some(path.clone());
        self.objects.push(Object { kind: kind.clone(), places: vec![None, place.clone()] });
        let index = self.objects.len() - 1;
        match kind {
            Kind::Symlink(text) => std::os::unix::fs::symlink(text, &path)?,
            Kind::File(number) => write_synced(&path, number)?,
            Kind::Directory(number) => {
                std::fs::create_dir(&path)?;
                write_synced(&path.join("inside"), number)?;
                bytes::sync_dir(&path)?;
            }
        }
        self.settle(index, &[&path])
    }

    /// The last change of an object was made: it is promised now, or once these names are durable.
    fn settle(&mut self, object: usize, paths: &[&Path]) -> io::Result<()> {
        if self.post.acknowledged() {
            self.objects[object].promise();
        }
        paths.iter().try_for_each(|path| Self::sync_parent(path))?;
        self.post.synced()?;
        self.objects[object].promise();
        Ok(())
    }

    /// An object that is somewhere, and where.
    fn any(&mut self) -> Option<(usize, PathBuf)> {
        let there = |object: &Object| object.places.last().cloned().flatten();
        let all: Vec<_> =
            self.objects.iter().enumerate().filter_map(|(at, object)| Some((at, there(object)?))).collect();
        if all.is_empty() { None } else { all.get(self.post.dice.below(all.len())).cloned() }
    }

    fn move_one(&mut self) -> io::Result<()> {
        let Some((index, old)) = self.any() else { return Ok(()) };
        let (_, new) = self.fresh();
        self.objects[index].is_at(Some(new.clone()));
        std::fs::rename(&old, &new)?;
        self.settle(index, &[&new, &old])
    }

    fn link_one(&mut self) -> io::Result<()> {
        let Some((index, old)) = self.any() else { return Ok(()) };
        let kind = self.objects[index].kind.clone();
        if !matches!(kind, Kind::File(_)) {
            return Ok(());
        }
        let (_, new) = self.fresh();
        self.objects.push(Object { kind, places: vec![None, Some(new.clone())] });
        std::fs::hard_link(&old, &new)?;
        self.settle(self.objects.len() - 1, &[&new])
    }

    fn remove_one(&mut self) -> io::Result<()> {
        let Some((index, path)) = self.any() else { return Ok(()) };
        if matches!(self.objects[index].kind, Kind::Directory(_)) {
            // Not in one step, so it is no promise any more.
            self.objects.swap_remove(index);
            std::fs::remove_dir_all(&path)?;
            return Self::sync_parent(&path);
        }
        self.objects[index].is_at(None);
        std::fs::remove_file(&path)?;
        self.settle(index, &[&path])?;
        self.objects.swap_remove(index);
        Ok(())
    }

    /// The way in which programs replace a file.
    fn replace(&mut self) -> io::Result<()> {
        let number = self.post.dice.below(TARGETS);
        self.next += 1;
        let (target, new) = (self.target(number), self.post.dir.join("new"));
        let _ = std::fs::remove_file(&new);
        write_synced(&new, self.next)?;
        self.targets[number].push(self.next);
        std::fs::rename(&new, &target)?;
        if !self.post.acknowledged() {
            bytes::sync_dir(&self.post.dir)?;
            self.post.synced()?;
        }
        self.targets[number] = vec![self.next];
        Ok(())
    }

    fn check_target(&self, number: usize) -> Result<u64, String> {
        let path = self.target(number);
        let found = bytes::read(&path)?.ok_or_else(|| format!("{}: is gone", path.display()))?;
        let holds = self.targets[number].iter().find(|number| data(**number) == found);
        holds
            .copied()
            .ok_or_else(|| format!("{}: holds what it never held, or no longer may", path.display()))
    }
}

fn data(number: u64) -> Vec<u8> {
    pattern(number, 1 + (number as usize * 977) % 9000)
}

fn write_synced(path: &Path, number: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&data(number))?;
    file.sync_all()
}

/// Whether the object is at `path`, whole.
fn is_whole(kind: &Kind, path: &Path) -> Result<bool, String> {
    let stat = match std::fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let good = match kind {
        Kind::Symlink(text) => std::fs::read_link(path).is_ok_and(|found| found.as_os_str() == text.as_str()),
        Kind::File(number) => {
            stat.is_file() && bytes::read(path)?.is_some_and(|found| found == data(*number))
        }
        Kind::Directory(number) => {
            bytes::read(&path.join("inside"))?.is_some_and(|found| found == data(*number))
        }
    };
    if good { Ok(true) } else { Err(format!("{}: is there, and not whole", path.display())) }
}

/// Where it is; a problem.
fn find(object: &Object) -> (Option<PathBuf>, Option<String>) {
    let may_be_nowhere = object.places.contains(&None);
    // What is just being made is none yet.
    let is_new = object.places.first() == Some(&None);
    let mut found = Vec::new();
    for place in object.places.iter().flatten() {
        match is_whole(&object.kind, place) {
            Ok(true) => found.push(place.clone()),
            Ok(false) => {}
            Err(_) if is_new => return (None, None),
            Err(problem) => return (None, Some(problem)),
        }
    }
    let problem = match found.len() {
        0 if may_be_nowhere => None,
        0 => Some(format!("{:?}: is at none of its places {:?}", object.kind, object.places)),
        1 => None,
        _ => Some(format!("{:?}: is at two places at once: {found:?}", object.kind)),
    };
    (found.pop(), problem)
}

impl Actor for Names {
    fn step(&mut self) -> io::Result<()> {
        match self.post.dice.below(10) {
            _ if self.objects.len() > MOST => self.remove_one(),
            0..=3 => self.make(),
            4 | 5 => self.move_one(),
            6 => self.link_one(),
            7 => self.remove_one(),
            _ => self.replace(),
        }
    }

    fn check(&mut self, findings: &mut Findings) {
        for mut object in std::mem::take(&mut self.objects) {
            let wanted = object.places.last().cloned().flatten();
            let (found, problem) = find(&object);
            findings.promise(problem);
            findings.undone += u64::from(found != wanted);
            if found.is_some() {
                object.places = vec![found];
                self.objects.push(object);
            }
        }
        for number in 0..TARGETS {
            match self.check_target(number) {
                Ok(holds) => {
                    findings.undone += u64::from(self.targets[number].last() != Some(&holds));
                    findings.promise(None);
                    self.targets[number] = vec![holds];
                }
                Err(problem) => findings.promise(Some(problem)),
            }
        }
    }
}
