//! Where keys outlive the process: one JSON file for each key and instance. Invariant: a file is the old or the new record, whole, and on
//! disk before the caller hears of the change. Key material lies there in the clear, for its user only: this KMS is for development.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Seconds;
use crate::keys::{Instance, Key, Material};

const FORMAT: u32 = 1;

/// What belongs to no instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    format: u32,
    /// Signs access tokens, so that they outlive a restart.
    pub token_key: Material,
    /// Seconds that the clock was moved forward.
    pub clock_offset: Seconds,
}

impl Meta {
    /// The same with another clock offset.
    #[must_use]
    pub fn ahead_by(&self, clock_offset: Seconds) -> Self {
        Self { clock_offset, ..self.clone() }
    }
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("open the store at {0}")]
    Open(PathBuf, #[source] io::Error),
    #[error("lock the store at {0}: another process uses it")]
    Busy(PathBuf),
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("understand {0}")]
    Parse(PathBuf, #[source] serde_json::Error),
    #[error("accept {0}: its format is not one that this program writes")]
    Format(PathBuf),
    #[error("write {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("encode a record")]
    Encode(#[source] serde_json::Error),
    #[error("draw random numbers")]
    Random(#[source] getrandom::Error),
}

/// A directory that is locked for this process, or nothing at all.
#[derive(Debug)]
pub struct Store(Option<Dir>);

#[derive(Debug)]
struct Dir {
    root: PathBuf,
    /// Held open: the lock ends with it.
    _lock: File,
}

/// What a store held when it was opened.
pub struct Loaded {
    pub meta: Meta,
    pub instances: BTreeMap<String, Instance>,
}

impl Store {
    /// Opens and locks `dir`, making it where needed; without one, records are kept nowhere.
    pub fn open(dir: Option<&Path>) -> Result<(Self, Loaded), StoreError> {
        let fresh = Meta {
            format: FORMAT,
            token_key: Material::random().map_err(StoreError::Random)?,
            clock_offset: 0,
        };
        let Some(root) = dir else {
            let loaded = Loaded { meta: fresh, instances: BTreeMap::new() };
            return Ok((Self(None), loaded));
        };
        let store = Self(Some(Dir { root: root.to_owned(), _lock: lock(root)? }));
        let meta_path = root.join("meta.json");
        let meta = match read::<Meta>(&meta_path)? {
            Some(meta) if meta.format == FORMAT => meta,
            Some(_) => return Err(StoreError::Format(meta_path)),
            None => {
                store.save_meta(&fresh)?;
                fresh
            }
        };
        let instances = load_instances(&root.join("instances"))?;
        Ok((store, Loaded { meta, instances }))
    }

    /// Keeps what belongs to no instance.
    pub fn save_meta(&self, meta: &Meta) -> Result<(), StoreError> {
        self.write(Path::new("meta.json"), meta)
    }

    /// Keeps an instance, without its keys.
    pub fn save_instance(&self, instance: &Instance) -> Result<(), StoreError> {
        self.write(&Path::new("instances").join(&instance.id).join("instance.json"), instance)
    }

    /// Keeps one key.
    pub fn save_key(&self, instance: &str, key: &Key) -> Result<(), StoreError> {
        self.write(&key_path(instance, &key.id), key)
    }

    /// Forgets one key.
    pub fn remove_key(&self, instance: &str, key: &str) -> Result<(), StoreError> {
        let Some(dir) = &self.0 else { return Ok(()) };
        let path = dir.root.join(key_path(instance, key));
        fs::remove_file(&path).and_then(|()| sync_parent(&path)).map_err(|e| StoreError::Write(path, e))
    }

    /// Forgets every instance and key.
    pub fn wipe(&self) -> Result<(), StoreError> {
        let Some(dir) = &self.0 else { return Ok(()) };
        let path = dir.root.join("instances");
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::Write(path, e)),
            _ => sync_parent(&path).map_err(|e| StoreError::Write(path, e)),
        }
    }

    fn write(&self, relative: &Path, record: &impl Serialize) -> Result<(), StoreError> {
        let Some(dir) = &self.0 else { return Ok(()) };
        let path = dir.root.join(relative);
        let json = zeroize::Zeroizing::new(serde_json::to_vec_pretty(record).map_err(StoreError::Encode)?);
        replace(&path, &json).map_err(|e| StoreError::Write(path, e))
    }
}

fn key_path(instance: &str, key: &str) -> PathBuf {
    ["instances", instance, "keys", &format!("{key}.json")].iter().collect()
}

fn lock(root: &Path) -> Result<File, StoreError> {
    let open = |e| StoreError::Open(root.to_owned(), e);
    make_dir(root).map_err(open)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(root.join("lock"))
        .map_err(open)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy(root.to_owned())),
        Err(TryLockError::Error(e)) => Err(open(e)),
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes beside the file, makes that durable, then renames over it: the one order in which a kill leaves old or new.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    if !parent.is_dir() {
        make_dir(parent)?;
        for above in parent.ancestors().skip(1).take(2) {
            File::open(above)?.sync_all()?;
        }
    }
    let beside = path.with_extension("tmp");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = zeroize::Zeroizing::new(bytes);
            serde_json::from_slice(&bytes).map(Some).map_err(|e| StoreError::Parse(path.to_owned(), e))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::Read(path.to_owned(), e)),
    }
}

fn load_instances(root: &Path) -> Result<BTreeMap<String, Instance>, StoreError> {
    let mut instances = BTreeMap::new();
    for path in entries(root)? {
        // A kill between making the directory and its record leaves a directory without one: nothing was acknowledged then.
        let Some(mut instance) = read::<Instance>(&path.join("instance.json"))? else { continue };
        for file in entries(&path.join("keys"))? {
            if file.extension().is_some_and(|e| e == "json")
                && let Some(key) = read::<Key>(&file)?
            {
                instance.keys.insert(key.id.clone(), key);
            }
        }
        instances.insert(instance.id.clone(), instance);
    }
    Ok(instances)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = |e| StoreError::Read(dir.to_owned(), e);
    match fs::read_dir(dir) {
        Ok(list) => list.map(|entry| entry.map(|e| e.path()).map_err(read)).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(e) => Err(read(e)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_process_at_a_time_may_use_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(Some(dir.path())).unwrap();
        assert!(matches!(Store::open(Some(dir.path())), Err(StoreError::Busy(_))));
        drop(first);
        assert!(Store::open(Some(dir.path())).is_ok());
    }

    #[test]
    fn records_come_back_and_are_readable_by_their_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("made");
        let token_key = {
            let (store, loaded) = Store::open(Some(&root)).unwrap();
            store.save_instance(&Instance::new("i", 5, "x")).unwrap();
            loaded.meta.token_key
        };
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("meta.json"), mode("instances/i/instance.json")), (0o700, 0o600, 0o600));
        let (_store, loaded) = Store::open(Some(&root)).unwrap();
        assert!(loaded.instances.contains_key("i"));
        assert_eq!(loaded.meta.token_key.expose(), token_key.expose());
    }

    #[test]
    fn a_half_written_file_beside_a_record_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(Some(dir.path())).unwrap();
        store.save_instance(&Instance::new("i", 5, "x")).unwrap();
        fs::create_dir_all(dir.path().join("instances/i/keys")).unwrap();
        fs::write(dir.path().join("instances/i/keys/k.tmp"), b"{\"id\": \"k").unwrap();
        drop(store);
        let (_store, loaded) = Store::open(Some(dir.path())).unwrap();
        assert!(loaded.instances["i"].keys.is_empty());
    }

    #[test]
    fn a_damaged_record_stops_the_start_instead_of_being_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(Some(dir.path())).unwrap());
        fs::write(dir.path().join("meta.json"), b"{").unwrap();
        assert!(matches!(Store::open(Some(dir.path())), Err(StoreError::Parse(..))));
    }
}
