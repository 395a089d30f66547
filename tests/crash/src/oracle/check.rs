//! A volume after a crash, opened by a fresh filesystem and looked at as an application would.
//!
//! Invariant: a state passes only if every name, every byte and every attribute is one that may be found, and the volume can
//! be written again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::FileType;
use sidecar::fs::{FsError, ROOT};

use super::content;
use super::model::{Expect, Kind, Model, Tree};
use crate::work::{App, Volume};

/// What is wrong with a state.
type Violation = String;

/// A file as it was found.
struct Found {
    ino: u64,
    /// `None`: on a strict volume, with a zeroed block.
    contents: Option<Vec<u8>>,
    xattr: Option<Vec<u8>>,
}

/// What was found: each name with what it stands for.
#[derive(Default)]
struct Names {
    files: BTreeMap<String, Found>,
    dirs: Vec<String>,
    links: Vec<String>,
}

/// Looks at the volume in `dir` and writes to it.
pub fn check(volume: &Volume, dir: &Path, model: &Model, expect: &Expect) -> Result<(), Violation> {
    remove_orphans(dir)?;
    let mut app = serve(volume, dir)?;
    let found = check_found(&mut app, model, expect)?;
    if expect.in_order {
        return Ok(());
    }
    let whole = found.files.values().all(|file| file.contents.is_some());
    if whole && app.fs.counters().damaged.load(Ordering::Relaxed) > 0 {
        return Err("damage was counted".into());
    }
    write_again(volume, app, dir, &found)
}

/// Looks at a volume that is served.
pub fn check_served(app: &mut App, model: &Model, expect: &Expect) -> Result<(), Violation> {
    check_found(app, model, expect).map(drop)
}

fn check_found(app: &mut App, model: &Model, expect: &Expect) -> Result<Names, Violation> {
    let found = look(app)?;
    let versions = (expect.names.first..=expect.names.last).rev();
    let reasons: Vec<Violation> =
        versions.map_while(|version| matches(&found, &model.trees[version], model, expect).err()).collect();
    if reasons.len() > expect.names.last - expect.names.first {
        return Err(reasons.join(" | or with older names: "));
    }
    Ok(found)
}

fn remove_orphans(dir: &Path) -> Result<(), Violation> {
    let own = std::fs::File::open(dir.join(".cofferdam"))
        .map_err(|error| format!("open our directory: {error}"))?;
    sidecar::volume::remove_orphans(std::os::fd::AsFd::as_fd(&own));
    let orphans = dir.join(".cofferdam/orphans");
    let left = std::fs::read_dir(&orphans).map(Iterator::count).unwrap_or_default();
    if left > 0 { Err(format!("{left} orphans were left")) } else { Ok(()) }
}

fn serve(volume: &Volume, dir: &Path) -> Result<App, Violation> {
    volume.serve(dir.to_owned()).map_err(|error| format!("serve the volume: {error:?}"))
}

/// Reads all that there is.
fn look(app: &mut App) -> Result<Names, Violation> {
    let mut names = Names::default();
    let mut dirs = vec![(ROOT, String::new())];
    while let Some((id, path)) = dirs.pop() {
        for (name, kind) in list(app, id).map_err(|error| format!("list {path:?}: {error:?}"))? {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match kind {
                FileType::RegularFile => drop(names.files.insert(path.clone(), file(app, id, &name, &path)?)),
                FileType::Directory => {
                    let name = CString::new(name).unwrap_or_default();
                    let entry =
                        app.fs.lookup(id, &name).map_err(|error| format!("look up {path}: {error:?}"))?;
                    dirs.push((entry.id, path.clone()));
                    names.dirs.push(path);
                }
                _ => names.links.push(path),
            }
        }
    }
    Ok(names)
}

fn list(app: &App, id: u64) -> Result<Vec<(String, FileType)>, FsError> {
    let handle = app.fs.opendir(id)?;
    let mut entries = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); 8192];
    app.fs.readdir(handle, 0, &mut buffer, |entry| {
        entries.push((entry.name.to_string_lossy().into_owned(), entry.kind));
        true
    })?;
    app.fs.releasedir(handle);
    entries.retain(|(name, _)| name != "." && name != "..");
    Ok(entries)
}

fn file(app: &mut App, dir: u64, name: &str, path: &str) -> Result<Found, Violation> {
    let name = CString::new(name).unwrap_or_default();
    let entry = app.fs.lookup(dir, &name).map_err(|error| format!("look up {path}: {error:?}"))?;
    let headerless = |app: &App| app.fs.counters().headerless.load(Ordering::Relaxed);
    let before = headerless(app);
    let contents = match app.read(path) {
        Ok(contents) => Some(contents),
        // Only a strict volume says so; whether it may is judged by what was synced.
        Err(FsError::Zeroed(_)) => None,
        Err(error) => return Err(format!("read {path}: {error:?}")),
    };
    let size = app.fs.getattr(entry.id).map_err(|error| format!("stat {path}: {error:?}"))?.size;
    // What lies behind a header that was never written shows in the size until the file is opened.
    let headerless = headerless(app) > before;
    let len = contents.as_ref().map_or(size, |contents| contents.len() as u64);
    if size != len || (entry.attr.size != size && !headerless) {
        return Err(format!("{path} has {len} bytes, its size was {} and is {size}", entry.attr.size));
    }
    let xattr = match app.fs.getxattr(entry.id, crate::work::XATTR) {
        Ok(value) => Some(value),
        Err(error) if error.errno() == rustix::io::Errno::NODATA.raw_os_error() => None,
        Err(error) => return Err(format!("read the attribute of {path}: {error:?}")),
    };
    Ok(Found { ino: entry.attr.ino, contents, xattr })
}

/// Whether what was found is this version of the names, with files that may be found under them.
fn matches(found: &Names, tree: &Tree, model: &Model, expect: &Expect) -> Result<(), Violation> {
    let of = |wanted: fn(&Kind) -> bool| {
        let names = tree.iter().filter(move |(_, kind)| wanted(kind));
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    let mut dirs: Vec<&str> = found.dirs.iter().map(String::as_str).collect();
    dirs.sort_unstable();
    let files: Vec<&str> = found.files.keys().map(String::as_str).collect();
    if dirs != of(|kind| *kind == Kind::Dir)
        || files != of(|kind| matches!(kind, Kind::File(_)))
        || found.links != of(|kind| *kind == Kind::Link)
    {
        return Err(format!(
            "files {files:?}, directories {dirs:?}, links {:?} against {tree:?}",
            found.links
        ));
    }
    let mut objects = BTreeMap::new();
    for (path, file) in &found.files {
        let Some(Kind::File(number)) = tree.get(path) else { continue };
        if objects.insert(*number, file.ino).is_some_and(|other| other != file.ino) {
            return Err(format!("{path} is no other name of the file that it was linked to"));
        }
        let versions = &model.files[*number];
        let window = expect.contents[*number];
        match &file.contents {
            Some(contents) => content::check(&versions.contents, window, contents, expect.in_order),
            None if window.first == window.last => Err("a block is zeroed, and all was synced".into()),
            None => Ok(()),
        }
        .map_err(|why| format!("{path}: {why}"))?;
        let window = expect.xattrs[*number];
        if !versions.xattrs[window.first..=window.last].contains(&file.xattr) {
            return Err(format!("{path}: its attribute is none that it had since the last sync"));
        }
    }
    Ok(())
}

/// The volume can be used as before: each file is written within and at its end, new ones are made, and all of it is there
/// for the next one who opens it.
fn write_again(volume: &Volume, mut app: App, dir: &Path, found: &Names) -> Result<(), Violation> {
    let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut by_object: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (path, file) in &found.files {
        if file.contents.is_none() && !by_object.contains_key(&file.ino) {
            app.empty(path).map_err(|error| format!("empty {path}: {error:?}"))?;
        }
        let old = by_object.get(&file.ino).or(file.contents.as_ref()).cloned().unwrap_or_default();
        let contents = written_again(&mut app, path, old)?;
        by_object.insert(file.ino, contents);
        check_shape(volume, &dir.join(path)).map_err(|why| format!("{path}: {why}"))?;
    }
    for (path, file) in &found.files {
        wanted.insert(path.clone(), by_object[&file.ino].clone());
    }
    for parent in found.dirs.iter().map(|dir| format!("{dir}/")).chain([String::new()]) {
        if parent.matches('/').count() > 1 {
            continue;
        }
        let path = format!("{parent}new");
        app.create(&path).map_err(|error| format!("make {path}: {error:?}"))?;
        wanted.insert(path, Vec::new());
    }
    drop(app);
    let mut app = serve(volume, dir)?;
    for (path, contents) in &wanted {
        let found = app.read(path).map_err(|error| format!("read {path} again: {error:?}"))?;
        if found != *contents {
            return Err(format!("{path} is not what was written after the crash ({} bytes)", found.len()));
        }
    }
    Ok(())
}

/// Writes within a file of these contents and at its end; what it holds then.
fn written_again(app: &mut App, path: &str, mut contents: Vec<u8>) -> Result<Vec<u8>, Violation> {
    let size = contents.len();
    contents.resize(size + 5000, 0xEE);
    contents[..10].fill(0xDD);
    let written = app.open(path, true).and_then(|id| {
        let result =
            app.write(id, 0, &contents[..10]).and_then(|()| app.write(id, size as u64, &contents[size..]));
        app.close(id, result)
    });
    written.map(|()| contents).map_err(|error| format!("write {path} again: {error:?}"))
}

/// A file that was written is a header and whole blocks.
fn check_shape(volume: &Volume, path: &Path) -> Result<(), Violation> {
    let len = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    let blocks = len.checked_sub(volume.header_len());
    let whole = blocks.is_some_and(|blocks| blocks > 0 && blocks.is_multiple_of(envelope::PAGE as u64));
    if whole { Ok(()) } else { Err(format!("{len} bytes on the storage are no header and whole blocks")) }
}
