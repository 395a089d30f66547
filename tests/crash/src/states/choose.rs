//! Which states are made of all that a crash may leave.
//!
//! Invariant: the choice depends on the recording only, so that a state's number means the same in each run.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::file::Pending;
use super::journal;
use crate::disk::{Attrs, Body, Change, Data, Image, Ino, ROOT};

/// A storage after a crash.
pub struct State {
    /// What is on it: inodes that have a name, and all of their names.
    pub image: Image,
    /// Two states that are equal have the same.
    pub digest: u64,
}

/// A crash behind the last change of a log.
pub struct Crash<'a> {
    base: &'a Image,
    log: &'a [Change],
    /// For each number of changes of names: the image, newest first.
    names: Vec<Image>,
    files: BTreeMap<Ino, Vec<Data>>,
    attrs: BTreeMap<Ino, Vec<Attrs>>,
    choices: Vec<Vec<usize>>,
}

impl<'a> Crash<'a> {
    /// The states that a crash behind `log` may leave: all, or about `most` chosen ones.
    pub fn new(base: &'a Image, log: &'a [Change], most: usize) -> Self {
        let (count, durable) = journal::names(log);
        let names: Vec<Image> =
            (durable..=count).rev().map(|count| journal::with_names(base, log, count)).collect();
        let mut crash =
            Self { base, log, names, files: BTreeMap::new(), attrs: BTreeMap::new(), choices: Vec::new() };
        let newest = crash.names[0].clone();
        for (ino, node) in &newest.nodes {
            if let Body::File(_) = node.body {
                let data = crash.base.data(*ino).cloned().unwrap_or_default();
                crash.files.insert(*ino, Pending::of(*ino, &data, crash.log).states(most));
            }
            let first = crash.base.nodes.get(ino).map_or(&node.attrs, |node| &node.attrs);
            crash.attrs.insert(*ino, journal::attributes(*ino, first, crash.log));
        }
        let files = crash.files.values().map(Vec::len);
        let attrs = crash.attrs.values().map(Vec::len);
        let counts: Vec<usize> = std::iter::once(crash.names.len()).chain(files).chain(attrs).collect();
        crash.choices = choices(&counts, most);
        crash
    }

    /// How many states there are, equal ones counted.
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    /// Whether there is none; never.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// One state; the first is what there would be without a crash.
    pub fn state(&self, number: usize) -> State {
        let mut choice = self.choices[number].iter().copied();
        let mut next = || choice.next().unwrap_or_default();
        let mut image = self.names[next()].clone();
        for (ino, states) in &self.files {
            let data = &states[next()];
            if let Some(node) = image.nodes.get_mut(ino) {
                node.body = Body::File(data.clone());
            }
        }
        for (ino, versions) in &self.attrs {
            let attrs = &versions[next()];
            if let Some(node) = image.nodes.get_mut(ino) {
                node.attrs = attrs.clone();
            }
        }
        let digest = digest(&image);
        State { image, digest }
    }
}

/// Choices of one of each: all combinations, if there are at most `most`; else the newest of all, the oldest of all, each
/// version of each with the newest and with the oldest of the others, and others by chance.
pub fn choices(counts: &[usize], most: usize) -> Vec<Vec<usize>> {
    let all = counts.iter().try_fold(1_usize, |all, count| all.checked_mul(*count));
    if all.is_some_and(|all| all <= most) {
        return every(counts);
    }
    let newest = vec![0; counts.len()];
    let oldest: Vec<usize> = counts.iter().map(|count| count - 1).collect();
    let mut chosen = vec![newest.clone(), oldest.clone()];
    for (place, count) in counts.iter().enumerate() {
        for version in 0..*count {
            for others in [&newest, &oldest] {
                let mut choice = others.clone();
                choice[place] = version;
                chosen.push(choice);
            }
        }
    }
    // Always the same chance.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    while chosen.len() < most {
        chosen.push(counts.iter().map(|count| (step(&mut state) % *count as u64) as usize).collect());
    }
    let mut seen = std::collections::HashSet::new();
    chosen.retain(|choice| seen.insert(choice.clone()));
    chosen
}

fn every(counts: &[usize]) -> Vec<Vec<usize>> {
    counts.iter().fold(vec![Vec::new()], |prefixes, count| {
        let extended =
            |prefix: Vec<usize>| (0..*count).map(move |version| [&prefix[..], &[version]].concat());
        prefixes.into_iter().flat_map(extended).collect()
    })
}

fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}

/// Of what has a name.
fn digest(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    put(image, ROOT, &mut hasher);
    hasher.finish()
}

fn put(image: &Image, ino: Ino, hasher: &mut DefaultHasher) {
    let node = &image.nodes[&ino];
    let Attrs { mode, uid, gid, xattrs, .. } = &node.attrs;
    (ino, mode, uid, gid, xattrs).hash(hasher);
    match &node.body {
        Body::File(data) => (data.size, &data.pages).hash(hasher),
        Body::Link(target) => target.hash(hasher),
        Body::Dir(entries) => {
            for (name, ino) in entries {
                name.hash(hasher);
                put(image, *ino, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_combinations_are_made_where_there_are_few_and_each_alone_where_there_are_many() {
        assert_eq!(choices(&[2, 1, 2], 4), [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]);
        let chosen = choices(&[3, 3, 3], 20);
        assert!(chosen.len() <= 20 && chosen.contains(&vec![0, 0, 0]) && chosen.contains(&vec![2, 2, 2]));
        assert!(chosen.contains(&vec![0, 1, 0]) && chosen.contains(&vec![2, 0, 2]));
        assert_eq!(chosen, choices(&[3, 3, 3], 20));
    }
}
