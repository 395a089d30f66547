//! A listing of a directory that two copies can be compared by.
//!
//! Invariant: sorted by path, and made of content, mode, size and link targets, never of times or inode numbers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

pub fn run(root: &Path) -> anyhow::Result<()> {
    let mut lines = vec![];
    list(root, root, &mut lines)?;
    lines.sort();
    let mut digest = Sha256::new();
    for line in &lines {
        println!("{line}");
        digest.update(line);
        digest.update("\n");
    }
    println!("{} entries, digest {}", lines.len(), hex(&digest.finalize()));
    Ok(())
}

fn list(root: &Path, directory: &Path, lines: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(root)?.display().to_string();
        let content = if metadata.is_symlink() {
            fs::read_link(&path)?.display().to_string()
        } else if metadata.is_file() {
            hex(&Sha256::digest(fs::read(&path)?))
        } else {
            String::new()
        };
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        lines.push(format!("{name} {:o} {size} {content}", metadata.mode()));
        if metadata.is_dir() {
            list(root, &path, lines)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
