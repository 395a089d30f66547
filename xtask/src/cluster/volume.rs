//! Volumes for tests: a small ext4 filesystem on a loop device behind a `local` PersistentVolume. Invariant: the mount is
//! in the cluster's mount namespace only, and the loop device detaches itself when the mount goes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Cluster, Within, node};
use crate::places::Places;
use crate::process;

/// How a test volume differs from the usual one.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// ext4's block size in bytes: 1024, 2048 or 4096.
    pub block_size: u32,
    /// The PersistentVolume's storage class.
    pub storage_class: String,
    /// Whether a PersistentVolume is made for the filesystem.
    pub persistent_volume: bool,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self { block_size: 4096, storage_class: node::STORAGE_CLASS.into(), persistent_volume: true }
    }
}

/// Where the volume is mounted, in the cluster's mount namespace.
pub fn mount_point(name: &str) -> String {
    format!("{}/volumes/{name}", node::INSIDE)
}

/// The volume's image file, outside.
pub fn image(places: &Places, name: &str) -> PathBuf {
    places.run.join("volumes").join(format!("{name}.img"))
}

/// Makes, formats and mounts the image, and applies the PersistentVolume.
pub fn add(cluster: &Cluster, name: &str, megabytes: u64, options: &VolumeOptions) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(!name.is_empty() && name.bytes().all(plain), "{name:?} is no name for a volume");
    cluster.first_process()?;
    let image = image(cluster.places(), name);
    let file = File::create_new(&image).with_context(|| format!("create {}", image.display()))?;
    file.set_len(megabytes << 20).with_context(|| format!("size {}", image.display()))?;
    let mut format = Command::new("mkfs.ext4");
    format.args(["-q", "-F", "-m", "0", "-b", &options.block_size.to_string()]).arg(&image);
    process::output(&mut format).context("format the volume")?;
    let mount_point = mount_point(name);
    let inside = format!("{mount_point}.img");
    process::output(cluster.command(Within::Everything, "mkdir")?.arg(&mount_point))?;
    process::output(cluster.command(Within::Everything, "mount")?.args([
        "-o",
        "loop",
        &inside,
        &mount_point,
    ]))
    .context("mount the volume")?;
    if options.persistent_volume {
        cluster.apply(&persistent_volume(name, megabytes, options).to_string())?;
    }
    Ok(())
}

/// Deletes the PersistentVolume, the mount and the image.
pub fn delete(cluster: &Cluster, name: &str) -> Result<()> {
    process::output(&mut cluster.kubectl([
        "delete",
        "persistentvolume",
        name,
        "--ignore-not-found",
        "--wait=false",
    ])?)?;
    let mount_point = mount_point(name);
    process::output(cluster.command(Within::Everything, "umount")?.arg(&mount_point))
        .context("unmount the volume")?;
    process::output(cluster.command(Within::Everything, "rmdir")?.arg(&mount_point))?;
    let image = image(cluster.places(), name);
    fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))
}

fn persistent_volume(name: &str, megabytes: u64, options: &VolumeOptions) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": format!("{megabytes}Mi")},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": options.storage_class,
            "local": {"path": mount_point(name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node::NAME]}]}]}},
        },
    })
}
