//! Container images made without a container tool or a registry. Invariant: equal content gives an equal digest, and an
//! image that the cluster has already is not imported again.

mod apps;
mod archive;
pub mod command;
mod layer;
mod libraries;
mod packages;
pub mod programs;

use std::path::Path;

use anyhow::{Context, Result};

pub use self::archive::Image;
pub use self::programs::Profile;
use crate::cluster::{Cluster, build};
use crate::places::Places;
use crate::progress;

/// The image with Cofferdam's programs.
pub const PROGRAMS: &str = "localhost/cofferdam:dev";
/// The image that test applications run in: a shell, the usual tools, PostgreSQL.
pub const APPS: &str = "localhost/apps:dev";
/// The sandbox image.
pub const PAUSE: &str = "localhost/pause:1";

/// Builds Cofferdam's programs and all images.
pub fn build_all(places: &Places, profile: Profile) -> Result<Vec<Image>> {
    Ok(vec![build_programs(places, profile)?, build_apps(places)?])
}

/// Builds Cofferdam's programs and their image.
pub fn build_programs(places: &Places, profile: Profile) -> Result<Image> {
    programs::build(places, profile)?;
    progress::step(&format!("making the image {PROGRAMS}"), || {
        let layer = programs::layer(places, profile)?;
        let settings = archive::Settings { entrypoint: &[], user: "65532:65532" };
        archive::write(PROGRAMS, &layer, &settings, &file(places, "cofferdam"))
    })
}

/// Builds the image of the test applications.
pub fn build_apps(places: &Places) -> Result<Image> {
    progress::step("building the test application", || {
        programs::compile(places, Profile::Dev, &["cofferdam-workload"])
    })?;
    let root = packages::unpacked(places)?;
    progress::step(&format!("making the image {APPS}"), || {
        let layer = apps::layer(places, &root)?;
        archive::write(APPS, &layer, &archive::Settings { entrypoint: &[], user: "" }, &file(places, "apps"))
    })
}

/// Imports images into a running cluster, unless it has these very ones.
pub fn import(cluster: &Cluster, images: &[Image]) -> Result<()> {
    for image in images {
        if cluster.image_digest(&image.name)?.as_deref() == Some(&image.digest) {
            progress::note(&format!("{} is in the cluster already", image.name));
            continue;
        }
        progress::step(&format!("importing {}", image.name), || cluster.import_image(&image.file))?;
    }
    Ok(())
}

/// Makes the sandbox image and imports it.
pub fn import_pause(cluster: &Cluster) -> Result<()> {
    let places = cluster.places();
    let mut layer = layer::Layer::new();
    layer.folder("dev")?;
    layer.program("pause", &build::programs(places)?.join("pause"))?;
    let settings = archive::Settings { entrypoint: &["/pause"], user: "65535:65535" };
    let image = archive::write(PAUSE, &layer.finish()?, &settings, &file(places, "pause"))?;
    if cluster.image_digest(PAUSE)?.as_deref() != Some(&image.digest) {
        cluster.import_image(&image.file)?;
    }
    Ok(())
}

fn file(places: &Places, name: &str) -> std::path::PathBuf {
    places.cache.join("images").join(places.id()).join(format!("{name}.tar"))
}

/// Makes the folder that a file is to stand in.
fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().context("find a file's folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}
