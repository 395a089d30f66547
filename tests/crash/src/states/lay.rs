//! A state, laid down as a directory.
//!
//! Invariant: what has several names is one object.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use envelope::PAGE;
use rustix::fs::XattrFlags;

use crate::disk::{Attrs, Body, Data, Image, Ino, ROOT};

/// Makes the directory `at` with what the image holds.
pub fn lay(image: &Image, at: &Path) {
    put(image, ROOT, at, &mut BTreeMap::new());
}

fn put(image: &Image, ino: Ino, at: &Path, made: &mut BTreeMap<Ino, PathBuf>) {
    if let Some(first) = made.get(&ino) {
        std::fs::hard_link(first, at).unwrap();
        return;
    }
    let node = &image.nodes[&ino];
    match &node.body {
        Body::File(data) => write(data, at),
        Body::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), at).unwrap(),
        Body::Dir(entries) => {
            std::fs::create_dir(at).unwrap();
            for (name, ino) in entries {
                put(image, *ino, &at.join(OsStr::from_bytes(name)), made);
            }
        }
    }
    if !matches!(node.body, Body::Link(_)) {
        dress(&node.attrs, at);
    }
    if !matches!(node.body, Body::Dir(_)) {
        made.insert(ino, at.to_owned());
    }
}

fn write(data: &Data, at: &Path) {
    let file = File::create(at).unwrap();
    for (page, bytes) in &data.pages {
        let offset = page * PAGE as u64;
        let len = (data.size - offset).min(PAGE as u64) as usize;
        file.write_all_at(&bytes[..len], offset).unwrap();
    }
    file.set_len(data.size).unwrap();
}

fn dress(attrs: &Attrs, at: &Path) {
    std::fs::set_permissions(at, Permissions::from_mode(attrs.mode & 0o7777)).unwrap();
    if (attrs.uid, attrs.gid) != (0, 0) {
        std::os::unix::fs::chown(at, Some(attrs.uid), Some(attrs.gid)).unwrap();
    }
    for (name, value) in &attrs.xattrs {
        let name = CString::new(name.clone()).unwrap();
        rustix::fs::setxattr(at, name.as_c_str(), value, XattrFlags::empty()).unwrap();
    }
}
