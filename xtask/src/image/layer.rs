//! The tar archive of an image's files. Invariant: it depends on names, modes and bytes alone: entries are sorted, owned
//! by root and dated 1970.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tar::{Builder, EntryType, Header};

/// What stands at one path.
enum Entry {
    Folder(u32),
    Link(PathBuf),
    File(u32, Source),
}

enum Source {
    Disk(PathBuf),
    Text(String),
}

/// A layer in the making: each path, relative to the image's root, once.
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Layer {
    pub fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// A folder that all may enter.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.put(Path::new(path), Entry::Folder(0o755))
    }

    /// A folder that all may write to, as `/tmp`.
    pub fn shared_folder(&mut self, path: &str) -> Result<()> {
        self.put(Path::new(path), Entry::Folder(0o1777))
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.put(Path::new(path), Entry::Link(target.into()))
    }

    /// A file with this text.
    pub fn text(&mut self, path: &str, text: &str) -> Result<()> {
        self.put(Path::new(path), Entry::File(0o644, Source::Text(text.into())))
    }

    /// An executable copy of `source`.
    pub fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        self.put(Path::new(path), Entry::File(0o755, Source::Disk(source.into())))
    }

    /// An executable copy of `source`, unless something stands at `path`.
    pub fn program_if_new(&mut self, path: &str, source: &Path) -> Result<()> {
        if self.entries.contains_key(Path::new(path)) {
            return Ok(());
        }
        self.program(path, source)
    }

    /// Whatever stands at `source`, without set-user-ID bits.
    pub fn copy(&mut self, path: &Path, source: &Path) -> Result<()> {
        let metadata =
            fs::symlink_metadata(source).with_context(|| format!("look at {}", source.display()))?;
        let mode = metadata.permissions().mode() & 0o777;
        let entry = if metadata.is_dir() {
            Entry::Folder(mode)
        } else if metadata.is_symlink() {
            Entry::Link(fs::read_link(source).with_context(|| format!("read {}", source.display()))?)
        } else {
            Entry::File(mode, Source::Disk(source.into()))
        };
        self.put(path, entry)
    }

    /// The archive.
    pub fn finish(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            append(&mut archive, path, entry).with_context(|| format!("add {}", path.display()))?;
        }
        archive.into_inner().context("finish a layer")
    }

    fn put(&mut self, path: &Path, entry: Entry) -> Result<()> {
        let path: PathBuf = path.strip_prefix("/").unwrap_or(path).into();
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            let parent = parent.to_path_buf();
            match self.entries.get(&parent) {
                None => self.put(&parent, Entry::Folder(0o755))?,
                Some(Entry::Folder(_)) => {}
                Some(_) => anyhow::bail!("{} is below what is no folder", path.display()),
            }
        }
        ensure!(path.is_relative() && path != Path::new(""), "{} is no path in an image", path.display());
        self.entries.insert(path, entry);
        Ok(())
    }
}

fn append(archive: &mut Builder<Vec<u8>>, path: &Path, entry: &Entry) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Folder(mode) => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            archive.append_data(&mut header, path, std::io::empty()).context("append a folder")
        }
        Entry::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, path, target).context("append a link")
        }
        Entry::File(mode, source) => {
            let bytes = match source {
                Source::Disk(file) => fs::read(file).with_context(|| format!("read {}", file.display()))?,
                Source::Text(text) => text.clone().into_bytes(),
            };
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice()).context("append a file")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn small(order: &[&str]) -> Vec<u8> {
        let mut layer = Layer::new();
        for path in order {
            layer.text(path, path).unwrap();
        }
        layer.finish().unwrap()
    }

    #[test]
    fn the_order_of_additions_leaves_no_trace() {
        assert_eq!(small(&["etc/a", "bin/b"]), small(&["bin/b", "etc/a"]));
        assert_ne!(small(&["etc/a"]), small(&["etc/b"]));
    }

    #[test]
    fn a_files_age_and_owner_leave_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        let layer_of = |age: u64| {
            fs::write(&file, "x").unwrap();
            let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age);
            fs::File::options().write(true).open(&file).unwrap().set_modified(when).unwrap();
            let mut layer = Layer::new();
            layer.copy(Path::new("x"), &file).unwrap();
            layer.finish().unwrap()
        };
        assert_eq!(layer_of(1), layer_of(1_000_000));
    }

    #[test]
    fn every_folder_above_a_file_is_there_before_it() {
        let bytes = small(&["a/b/c"]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths, [Path::new("a"), Path::new("a/b"), Path::new("a/b/c")]);
    }

    #[test]
    fn nothing_stands_below_a_file() {
        let mut layer = Layer::new();
        layer.text("a", "").unwrap();
        assert!(layer.text("a/b", "").is_err());
    }
}
