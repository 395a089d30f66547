//! An image as an archive in the OCI image layout, the form that containerd imports. Invariant: one layer, uncompressed,
//! for this machine's architecture; the file is replaced only when the content differs.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::make_parent;
use crate::digest;

/// How a container of the image starts.
pub struct Settings<'a> {
    /// The program and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// `uid:gid`, or nothing for root.
    pub user: &'a str,
}

/// An image on disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name and tag.
    pub name: String,
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
    /// The archive.
    pub file: PathBuf,
    /// The layer's size in bytes: what the image takes on a node's disk.
    pub size: u64,
}

impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.size * 10) >> 20;
        write!(formatter, "{} {}.{} MiB {}", self.name, tenths / 10, tenths % 10, self.digest)
    }
}

/// Writes the archive of the image called `name` to `file`.
pub fn write(name: &str, layer: &[u8], settings: &Settings<'_>, file: &Path) -> Result<Image> {
    let config = config(layer, settings).to_string();
    let manifest = manifest(layer, &config).to_string();
    let digest = oci_digest(manifest.as_bytes());
    let image = Image { name: name.into(), digest, file: file.into(), size: layer.len() as u64 };
    let index = index(&image, manifest.len()).to_string();
    let record = file.with_extension("index.json");
    if file.exists() && fs::read(&record).is_ok_and(|had| had == index.as_bytes()) {
        return Ok(image);
    }
    let layout = json!({"imageLayoutVersion": "1.0.0"}).to_string();
    let mut archive = Builder::new(Vec::new());
    append(&mut archive, "oci-layout", layout.as_bytes())?;
    append(&mut archive, "index.json", index.as_bytes())?;
    for blob in [manifest.as_bytes(), config.as_bytes(), layer] {
        append(&mut archive, &format!("blobs/{}", oci_digest(blob).replace(':', "/")), blob)?;
    }
    make_parent(file)?;
    let unfinished = file.with_extension("unfinished");
    fs::write(&unfinished, archive.into_inner().context("finish an image")?)
        .with_context(|| format!("write {}", unfinished.display()))?;
    fs::rename(&unfinished, file).with_context(|| format!("name {}", file.display()))?;
    fs::write(&record, index).with_context(|| format!("write {}", record.display()))?;
    Ok(image)
}

fn config(layer: &[u8], settings: &Settings<'_>) -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Entrypoint": settings.entrypoint, "User": settings.user, "WorkingDir": "/",
            "Env": ["PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [oci_digest(layer)]},
    })
}

fn manifest(layer: &[u8], config: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
            "digest": oci_digest(config.as_bytes())},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.len(),
            "digest": oci_digest(layer)}],
    })
}

fn index(image: &Image, manifest_size: usize) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": manifest_size,
            "digest": image.digest, "annotations": {"io.containerd.image.name": image.name,
                "org.opencontainers.image.ref.name": image.name.rsplit(':').next()}}],
    })
}

/// An OCI descriptor's digest.
fn oci_digest(bytes: &[u8]) -> String {
    format!("sha256:{}", digest::of(bytes))
}

fn append(archive: &mut Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).with_context(|| format!("append {path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn equal_content_is_an_equal_image_and_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x/y.tar");
        let settings = Settings { entrypoint: &["/x"], user: "1:1" };
        let first = write("localhost/x:1", b"layer", &settings, &file).unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let second = write("localhost/x:1", b"layer", &settings, &file).unwrap();
        assert_eq!(first.digest, second.digest);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
        let third = write("localhost/x:1", b"another", &settings, &file).unwrap();
        assert_ne!(first.digest, third.digest);
    }

    #[test]
    fn every_blob_is_stored_under_its_own_digest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("y.tar");
        write("localhost/x:1", b"layer", &Settings { entrypoint: &[], user: "" }, &file).unwrap();
        let mut archive = tar::Archive::new(fs::File::open(&file).unwrap());
        let mut blobs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(name, digest::of(&bytes));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }
}
