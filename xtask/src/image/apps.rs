//! The image of the test applications: a shell, the usual tools, PostgreSQL 15 and SQLite. Invariant: every program in it
//! finds its libraries in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layer::Layer;
use super::libraries;
use super::programs;
use crate::places::Places;

/// Folders whose files are taken as they are.
const FOLDERS: &[&str] = &[
    "bin",
    "usr/bin",
    "usr/lib/locale/C.utf8",
    "usr/lib/postgresql/15/bin",
    "usr/lib/postgresql/15/lib",
    "usr/share/postgresql/15",
    "usr/share/zoneinfo/Etc",
];
/// Parts of these that no test needs: the just-in-time compiler, other languages' tools, documents.
const LEFT_OUT: &[&str] = &[
    "usr/bin/perl",
    "usr/bin/corelist",
    "usr/bin/cpan",
    "usr/bin/python",
    "usr/lib/postgresql/15/lib/bitcode",
    "usr/lib/postgresql/15/lib/llvmjit",
    "usr/lib/postgresql/15/lib/pgxs",
    "usr/share/postgresql/15/man",
];
/// Folders that Debian has merged into those below `/usr`.
const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];
/// Users that the tests run applications as.
const USERS: &str = "postgres:x:999:999:postgres:/tmp:/bin/bash\napp:x:1000:1000:app:/tmp:/bin/bash\n";
const GROUPS: &str = "postgres:x:999:\napp:x:1000:\n";

/// The image's files, from the unpacked packages below `root`.
pub fn layer(places: &Places, root: &Path) -> Result<Vec<u8>> {
    let mut layer = Layer::new();
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        gather(root, Path::new(folder), &mut found)?;
    }
    let mut needed = BTreeSet::new();
    for path in &found {
        layer.copy(&merged(path), &root.join(path))?;
        if is_program(&root.join(path)) {
            needed.extend(libraries::of(&root.join(path), root)?);
        }
    }
    for folder in MERGED {
        layer.folder(&format!("usr/{folder}"))?;
        layer.link(folder, &format!("usr/{folder}"))?;
    }
    for library in &needed {
        let name = library.file_name().context("find a library's name")?.to_string_lossy().into_owned();
        layer.program(&format!("usr/lib/{name}"), library)?;
    }
    layer.program(&format!("usr/{}", libraries::LOADER), &libraries::loader(root)?)?;
    layer.link("usr/bin/sh", "bash")?;
    layer.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
    layer.shared_folder("var/run/postgresql")?;
    programs::base(&mut layer, USERS, GROUPS)?;
    add_workload(places, &mut layer)?;
    layer.finish()
}

/// The project's own test application, with the libraries that a Rust program needs and the packages lack.
fn add_workload(places: &Places, layer: &mut Layer) -> Result<()> {
    let program = programs::strip(places, &places.program("workload"))?;
    layer.program("usr/bin/workload", &program)?;
    for library in libraries::of(&program, Path::new("/"))? {
        let name = library.file_name().context("find a library's name")?.to_string_lossy().into_owned();
        layer.program_if_new(&format!("usr/lib/{name}"), &library)?;
    }
    Ok(())
}

/// Every path below `folder` that is not left out, relative to `root`.
fn gather(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let path = root.join(folder);
    for entry in fs::read_dir(&path).with_context(|| format!("list {}", path.display()))? {
        let entry = entry.with_context(|| format!("list {}", path.display()))?;
        let relative = folder.join(entry.file_name());
        if LEFT_OUT.iter().any(|left_out| relative.to_string_lossy().starts_with(left_out)) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(root, &relative, found)?;
        }
        found.insert(relative);
    }
    Ok(())
}

fn merged(path: &Path) -> PathBuf {
    let first = path.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned());
    if first.is_some_and(|first| MERGED.contains(&first.as_str())) {
        Path::new("usr").join(path)
    } else {
        path.into()
    }
}

/// Whether a file is an ELF program or library (its magic number, per the System V ABI).
fn is_program(path: &Path) -> bool {
    let plain = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut magic = [0; 4];
    plain
        && fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic)).is_ok()
        && magic == *b"\x7fELF"
}
