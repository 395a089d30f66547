//! Cofferdam on the cluster: the programs, their image, the chart. Invariant: what is installed is what was just built.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::image::{self, Profile};
use crate::{process, progress};

/// The namespace of the operator and the node driver.
pub const NAMESPACE: &str = "cofferdam-system";
/// How long Helm waits for what it installs.
const LIMIT: &str = "180s";

/// Builds, starts and installs whatever is not there yet.
pub fn everything(cluster: &Cluster, profile: Profile) -> Result<()> {
    cluster.up()?;
    // Also builds the programs that stand beside the cluster: the KMS for development and the hands of its owner.
    image::build_programs(cluster.places(), Profile::Dev)?;
    let images = image::build_all(cluster.places(), profile)?;
    image::import(cluster, &images)?;
    progress::step("installing the chart", || chart(cluster))
}

/// Installs or upgrades the chart and waits until it runs the image that was imported last.
pub fn chart(cluster: &Cluster) -> Result<()> {
    let repository = &cluster.places().repository;
    let mut install = cluster.helm(["upgrade", "--install", "cofferdam"])?;
    install.arg(repository.join("charts/cofferdam"));
    install.args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", LIMIT]);
    install.arg("--values").arg(repository.join("tests/cluster/values.yaml"));
    let digest = cluster.image_digest(image::PROGRAMS)?.unwrap_or_default();
    install.args(["--set-string", &format!("podAnnotations.cofferdam\\.io/image={digest}")]);
    process::shown(&mut install)
}
