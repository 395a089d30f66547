//! The control group that all pods of the cluster are below. Invariant: it is named after the run folder, so that two
//! clusters do not meet, and none of another name is touched.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::places::Places;

const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that kubelet wants to limit pods with.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

/// The group's name.
pub fn name(places: &Places) -> String {
    format!("cofferdam-{}", places.id())
}

/// Makes the group in every hierarchy, of cgroup v1 or v2.
pub fn make(name: &str) -> Result<()> {
    let root = Path::new(ROOT);
    if unified() {
        enable_controllers(root)?;
        make_folder(&root.join(name))?;
        return enable_controllers(&root.join(name));
    }
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        make_folder(&group)?;
        // A new group of `cpuset` has no processors and no memory until it is given some.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if group.join(file).exists() {
                let all = fs::read(hierarchy.join(file)).with_context(|| format!("read {file}"))?;
                fs::write(group.join(file), all)
                    .with_context(|| format!("write {file} of {}", group.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes the group and all below it, once their processes are gone.
pub fn remove(name: &str, limit: Duration) -> Result<()> {
    let mut groups = vec![Path::new(ROOT).join(name)];
    groups.extend(hierarchies()?.into_iter().map(|hierarchy| hierarchy.join(name)));
    let started = Instant::now();
    for group in groups.into_iter().filter(|group| group.exists()) {
        while let Err(error) = remove_tree(&group) {
            if started.elapsed() > limit {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The hierarchies of cgroup v1; in a hybrid set-up that of v2 is among them, without controllers.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if unified() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(ROOT).with_context(|| format!("list {ROOT}"))?;
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // Names such as `cpu` may be links to `cpu,cpuacct`.
    Ok(folders.filter(|path| path.is_dir() && !path.is_symlink()).collect())
}

fn enable_controllers(group: &Path) -> Result<()> {
    let list = group.join("cgroup.controllers");
    let have = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let control = group.join("cgroup.subtree_control");
    for controller in CONTROLLERS.iter().filter(|name| have.split_whitespace().any(|one| one == **name)) {
        fs::write(&control, format!("+{controller}"))
            .with_context(|| format!("enable the controller {controller} in {}", control.display()))?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make the control group {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_tree(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group).with_context(|| format!("list {}", group.display()))? {
        let entry = entry.with_context(|| format!("list {}", group.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            bail!("remove the control group {}: {error}", group.display())
        }
        _ => Ok(()),
    }
}
