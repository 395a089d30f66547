//! A directory tree as a list: what lies on the storage, to be laid out again; and what an application sees, to be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, XattrFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::table::{hex, unhex};

const PAGE: usize = envelope::PAGE;

/// An entry on the storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Raw {
    /// Below the volume's root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes, hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What it is.
    pub kind: RawKind,
}

/// What an entry on the storage is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RawKind {
    /// A directory.
    Directory,
    /// A file with the bytes of this one beside the list; pages of zeros are holes.
    File(String),
    /// Another name of this entry.
    Link(String),
    /// A symbolic link.
    Symlink(String),
    /// A named pipe.
    Fifo,
}

/// An entry as an application sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// Below the mount.
    pub path: String,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; of a directory 0, because storage counts as it likes.
    pub links: u64,
    /// Bytes; of a directory 0.
    pub size: u64,
    /// SHA-256 of a file's contents, text of a symbolic link.
    pub contents: String,
    /// Extended attributes, hexadecimal.
    pub attributes: BTreeMap<String, String>,
}

/// The names below `root`, directories before what is in them.
fn names(root: &Path, dir: &str, found: &mut Vec<String>) -> Result<()> {
    let mut here = Vec::new();
    for entry in std::fs::read_dir(root.join(dir))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("read a name")?;
        here.push((if dir.is_empty() { name } else { format!("{dir}/{name}") }, entry.file_type()?.is_dir()));
    }
    here.sort();
    for (path, is_dir) in here {
        found.push(path.clone());
        if is_dir {
            names(root, &path, found)?;
        }
    }
    Ok(())
}

fn attributes(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut list = vec![0; 4096];
    let len = rustix::fs::llistxattr(path, &mut list[..])?;
    let mut found = BTreeMap::new();
    for name in list[..len].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(path, CString::new(name)?.as_c_str(), &mut value[..])?;
        found.insert(String::from_utf8(name.to_vec())?, hex(&value[..len]));
    }
    Ok(found)
}

/// Lists what lies in `root`; the bytes of files go into `folder`. `skip` are paths that are left out.
pub fn pack(root: &Path, folder: &Path, skip: &[&str]) -> Result<Vec<Raw>> {
    let mut paths = Vec::new();
    names(root, "", &mut paths)?;
    let mut first_names: HashMap<u64, String> = HashMap::new();
    let mut packed = Vec::new();
    for path in paths.into_iter().filter(|path| !skip.contains(&path.as_str())) {
        let at = root.join(&path);
        let stat = std::fs::symlink_metadata(&at)?;
        let kind = if stat.is_dir() {
            RawKind::Directory
        } else if stat.is_symlink() {
            RawKind::Symlink(std::fs::read_link(&at)?.to_string_lossy().into_owned())
        } else if stat.file_type().is_fifo() {
            RawKind::Fifo
        } else if let Some(first) = first_names.get(&stat.ino()) {
            RawKind::Link(first.clone())
        } else {
            first_names.insert(stat.ino(), path.clone());
            let name = format!("{:02}.bin", first_names.len());
            std::fs::write(folder.join(&name), std::fs::read(&at)?)?;
            RawKind::File(name)
        };
        let mode = stat.mode() & 0o7777;
        packed.push(Raw { path, mode, uid: stat.uid(), gid: stat.gid(), attributes: attributes(&at)?, kind });
    }
    Ok(packed)
}

/// Lays out in `root` what [`pack`] listed.
pub fn unpack(packed: &[Raw], folder: &Path, root: &Path) -> Result<()> {
    for entry in packed {
        let at = root.join(&entry.path);
        match &entry.kind {
            RawKind::Directory => std::fs::create_dir(&at)?,
            RawKind::Symlink(text) => std::os::unix::fs::symlink(text, &at)?,
            RawKind::Fifo => {
                rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, Mode::RWXU, 0)?;
            }
            RawKind::Link(first) => {
                std::fs::hard_link(root.join(first), &at)?;
                continue;
            }
            RawKind::File(name) => sparse(&at, &std::fs::read(folder.join(name))?)?,
        }
        for (name, value) in &entry.attributes {
            let value = unhex(value).context("read an attribute")?;
            rustix::fs::lsetxattr(&at, name, &value, XattrFlags::empty())?;
        }
        std::os::unix::fs::lchown(&at, Some(entry.uid), Some(entry.gid))?;
        if !matches!(entry.kind, RawKind::Symlink(_)) {
            std::fs::set_permissions(&at, std::fs::Permissions::from_mode(entry.mode))?;
        }
    }
    Ok(())
}

fn sparse(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = std::fs::File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (index, page) in bytes.chunks(PAGE).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, (index * PAGE) as u64)?;
        }
    }
    Ok(())
}

/// Lists what an application sees in `root`.
pub fn look(root: &Path) -> Result<Vec<Plain>> {
    let mut paths = Vec::new();
    names(root, "", &mut paths)?;
    paths.into_iter().map(|path| look_at(root, path)).collect()
}

fn look_at(root: &Path, path: String) -> Result<Plain> {
    let at = root.join(&path);
    let stat = std::fs::symlink_metadata(&at)?;
    let contents = if stat.is_symlink() {
        std::fs::read_link(&at)?.to_string_lossy().into_owned()
    } else if stat.is_file() {
        let bytes = std::fs::read(&at).with_context(|| format!("read {path}"))?;
        if bytes.len() as u64 != stat.len() {
            bail!("{path}: {} bytes of {}", bytes.len(), stat.len());
        }
        hex(&Sha256::digest(bytes))
    } else {
        String::new()
    };
    let is_dir = stat.is_dir();
    Ok(Plain {
        mode: stat.mode(),
        uid: stat.uid(),
        gid: stat.gid(),
        links: if is_dir { 0 } else { stat.nlink() },
        size: if is_dir { 0 } else { stat.len() },
        contents,
        attributes: attributes(&at)?,
        path,
    })
}
