//! What the storage's administrator sees: the backing volume, without any key.
//!
//! Invariant: read-only; nothing here goes through the encrypted mount.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envelope::{HeaderRegion, PAGE};

use crate::namespace::Stage;

/// A file on the backing volume.
pub struct RawFile {
    /// Relative to the volume's root.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl RawFile {
    /// The key version of its current slot.
    pub fn key_version(&self) -> Result<String> {
        let region =
            HeaderRegion::parse(&self.bytes[..PAGE]).context("parse the header")?.context("find a header")?;
        let (_, slot) = region.current().context("find a valid slot")?;
        Ok(slot.keys().first().context("find a wrapped key")?.version.clone())
    }

    /// Its sealed blocks.
    pub fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[PAGE.min(self.bytes.len())..].chunks(PAGE)
    }
}

impl Stage {
    /// Files of the application on a backing volume; Cofferdam's own aside.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn raw_files(&self, volume: &str) -> Vec<RawFile> {
        let root = self.cluster.volume_path(volume).unwrap_or_else(|error| panic!("{error:#}"));
        let mut found = vec![];
        walk(&root, &mut |path| found.push(path.to_owned()));
        let own = |path: &PathBuf| {
            path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".cofferdam"))
        };
        let files = found.into_iter().filter(|path| !own(path));
        files.filter_map(|path| raw_file(&root, &path)).collect()
    }

    /// Every byte of a backing volume: files, directories, the filesystem's own records and what it has freed.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn raw_image(&self, volume: &str) -> Vec<u8> {
        let root = self.cluster.volume_path(volume).unwrap_or_else(|error| panic!("{error:#}"));
        let synced = fs::File::open(&root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        synced.unwrap_or_else(|error| panic!("sync {}: {error}", root.display()));
        let image = self.cluster.volume_image(volume);
        fs::read(&image).unwrap_or_else(|error| panic!("read {}: {error}", image.display()))
    }

    /// Key versions of all files that have data, with how many files each wraps.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn raw_versions(&self, volume: &str) -> BTreeMap<String, usize> {
        let mut versions = BTreeMap::new();
        for file in self.raw_files(volume) {
            let version = file.key_version().unwrap_or_else(|error| panic!("{}: {error:#}", file.name));
            *versions.entry(version).or_default() += 1;
        }
        versions
    }
}

fn raw_file(root: &Path, path: &Path) -> Option<RawFile> {
    let bytes = fs::read(path).ok()?;
    let name = path.strip_prefix(root).ok()?.display().to_string();
    (bytes.len() >= PAGE).then_some(RawFile { name, bytes })
}

pub(crate) fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), visit),
            Ok(kind) if kind.is_file() => visit(&entry.path()),
            _ => {}
        }
    }
}
