//! Files that nobody syncs, some of them removed while they are open. Invariant: what is left of them can be read, and holds
//! what was written, or zeros.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use super::{Actor, Findings, Post, bytes};
use crate::dice::pattern;

/// See the module.
pub struct Loose {
    post: Post,
    next: u64,
    /// Files, what was written to each, and how much of it was promised.
    files: Vec<(PathBuf, Vec<u8>, usize)>,
    unlinked: Option<File>,
}

impl Loose {
    pub fn new(post: Post) -> Self {
        Self { post, next: 0, files: Vec::new(), unlinked: None }
    }
}

impl Actor for Loose {
    fn step(&mut self) -> io::Result<()> {
        let path = self.post.dir.join(format!("file-{}", self.next));
        self.next += 1;
        let data = pattern(self.next, self.post.dice.below(20_000));
        let half = data.len() / 2;
        if self.post.dice.chance(20) {
            let mut file = File::create(&path)?;
            file.write_all(&data[..half])?;
            std::fs::remove_file(&path)?;
            file.write_all(&data[half..])?;
            self.unlinked = Some(file);
            return Ok(());
        }
        let index = self.files.len();
        self.files.push((path.clone(), data.clone(), 0));
        let mut file = File::create(&path)?;
        for part in [&data[..half], &data[half..]] {
            file.write_all(part)?;
            if self.post.acknowledged() {
                self.files[index].2 += part.len();
            }
        }
        // No load of this kind fills a disk.
        std::thread::sleep(std::time::Duration::from_millis(1));
        Ok(())
    }

    fn rest(&mut self) {
        self.unlinked = None;
    }

    fn check(&mut self, findings: &mut Findings) {
        for (path, written, promised) in std::mem::take(&mut self.files) {
            let problem = match bytes::read(&path) {
                Ok(found) => {
                    let found = found.unwrap_or_default();
                    findings.undone += u64::from(found.len() < written.len());
                    bytes::problem(&path, &found, &written, promised)
                }
                Err(problem) => Some(problem),
            };
            findings.promise(problem);
            let _ = std::fs::remove_file(path);
        }
    }
}
