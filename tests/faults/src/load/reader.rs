//! Reads files that nobody changes, opening each anew. Invariant: they are always as they were made.

use std::io;
use std::path::PathBuf;

use anyhow::Result;

use super::{Actor, Findings, Post, bytes};
use crate::dice::pattern;

/// How many there are.
const FILES: usize = 24;

/// See the module.
pub struct Reader {
    post: Post,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Reader {
    pub fn new(mut post: Post) -> Result<Self> {
        let make = |number: usize| {
            let path = post.dir.join(format!("file-{number}"));
            let data = pattern(post.dice.roll(), post.dice.below(60_000));
            std::fs::write(&path, &data)?;
            Ok((path, data))
        };
        let files = (0..FILES).map(make).collect::<Result<_>>()?;
        Ok(Self { post, files })
    }
}

impl Actor for Reader {
    fn step(&mut self) -> io::Result<()> {
        let (path, data) = &self.files[self.post.dice.below(FILES)];
        if std::fs::read(path)? == *data {
            return Ok(());
        }
        Err(io::Error::other(format!("{}: a reader got other bytes", path.display())))
    }

    fn check(&mut self, findings: &mut Findings) {
        for (path, data) in &self.files {
            let problem = match bytes::read(path) {
                Ok(Some(found)) => bytes::problem(path, &found, data, data.len()),
                Ok(None) => Some(format!("{}: is gone", path.display())),
                Err(problem) => Some(problem),
            };
            findings.promise(problem);
        }
    }
}
