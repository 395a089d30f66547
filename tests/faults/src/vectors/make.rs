//! Makes the volumes once. Invariant: one whose folder exists is never touched.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, FileType, Mode, XattrFlags};

use super::table::Table;
use super::{Open, Vector, tree};
use crate::Place;
use crate::dice::pattern;

const BLOCK: usize = envelope::PAYLOAD;
/// What is of the moment and not of the volume.
const SKIPPED: &[&str] = &[".cofferdam/lease"];

/// Makes those of the volumes that are not in `folder` yet.
pub fn all(folder: &Path) -> Result<()> {
    let all = [
        ("native", [false, false, false]),
        ("virtual-strict", [true, true, false]),
        ("native-seal", [false, false, true]),
    ];
    let missing: Vec<_> = all.into_iter().filter(|(name, _)| !folder.join(name).exists()).collect();
    ensure!(!missing.is_empty(), "{} has every volume, and what exists is never replaced", folder.display());
    for (name, flags) in missing {
        volume(&folder.join(name), flags)?;
    }
    Ok(())
}

/// Makes one: filled under one version of the root key, partly read and filled further under the next.
fn volume(folder: &Path, [virtual_ownership, strict, seal]: [bool; 3]) -> Result<()> {
    let place = Place::new()?;
    let (raw, target) = (place.dir("raw")?, place.dir("mount")?);
    let mut vector = Vector {
        virtual_ownership,
        strict,
        seal,
        versions: vec!["version-1".into(), "version-2".into()],
        answers: vec![],
        raw: vec![],
        plain: vec![],
    };
    let table = Arc::new(Table::new(vec![vector.versions[0].clone()], vec![]));
    let open = Open::new(&raw, &target, &table, vector.make())?;
    fill(&target).context("fill the volume")?;
    open.close()?;
    table.rotate(&vector.versions[1]);
    let open = Open::new(&raw, &target, &table, vector.make())?;
    // These are rewrapped, because they are read.
    for name in ["blocks", "holes", "directory/deep"] {
        std::fs::read(target.join(name))?;
    }
    std::fs::write(target.join("of-version-2"), pattern(7, BLOCK + 1))?;
    open.close()?;
    std::fs::create_dir_all(folder)?;
    vector.raw = tree::pack(&raw, folder, SKIPPED)?;
    // Looking rewraps what is left, so it comes last.
    let open = Open::new(&raw, &target, &table, vector.make())?;
    vector.plain = tree::look(&target)?;
    vector.answers = table.answers();
    open.close()?;
    std::fs::write(folder.join("volume.json"), serde_json::to_string_pretty(&vector)? + "\n")?;
    Ok(())
}

/// A file of each kind.
fn fill(root: &Path) -> Result<()> {
    let at = |name: &str| root.join(name);
    File::create(at("empty"))?;
    std::fs::write(at("emptied"), pattern(1, 5000))?;
    OpenOptions::new().write(true).truncate(true).open(at("emptied"))?;
    std::fs::write(at("one-byte"), b"C")?;
    std::fs::write(at("full-block"), pattern(2, BLOCK))?;
    std::fs::write(at("blocks"), pattern(3, 2 * BLOCK + 100))?;
    let holes = File::create(at("holes"))?;
    holes.write_all_at(b"begin", 0)?;
    holes.write_all_at(b"end", 3 * BLOCK as u64 + 50)?;
    std::fs::write(at("punched"), pattern(4, 4 * BLOCK))?;
    let punched = OpenOptions::new().write(true).open(at("punched"))?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&punched, flags, 100, 3 * BLOCK as u64)?;
    std::fs::write(at("shortened"), pattern(5, 3 * BLOCK))?;
    OpenOptions::new().write(true).open(at("shortened"))?.set_len(BLOCK as u64 + 7)?;
    std::fs::create_dir(at("directory"))?;
    std::fs::create_dir(at("directory/nothing"))?;
    std::fs::write(at("directory/deep"), pattern(6, 300))?;
    std::fs::hard_link(at("blocks"), at("directory/link"))?;
    std::os::unix::fs::symlink("directory/deep", at("symlink"))?;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
    rustix::fs::setxattr(at("one-byte"), "user.note", b"in clear", XattrFlags::empty())?;
    for (name, mode, uid, gid) in
        [("one-byte", 0o444, 1234, 5678), ("full-block", 0o2750, 0, 99), ("directory", 0o1777, 1234, 0)]
    {
        std::os::unix::fs::chown(at(name), Some(uid), Some(gid))?;
        std::fs::set_permissions(at(name), Permissions::from_mode(mode))?;
    }
    Ok(())
}
