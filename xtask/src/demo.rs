//! `cargo xtask demo`: sets everything up, then tells the main job with what really happens. Invariant: nothing that it
//! prints about the story is written here; all of it is read from the cluster, the volume or the KMS.

pub mod kms;
mod shop;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::image::Profile;
use crate::{install, progress};

/// Runs the demo. The cluster stays up.
pub fn run() -> Result<()> {
    let cluster = Cluster::from_environment()?;
    install::everything(&cluster, Profile::Dev)?;
    let kms = progress::step("devkms, the KMS", || kms::DevKms::start(&cluster))?;
    let shop = shop::Shop::open(&cluster, &kms)?;
    shop.content()?;
    shop.rotation()?;
    shop.detached_rotation()?;
    shop.suspension()?;
    println!("\nThe cluster is still running. Look around:");
    println!("  cargo xtask cluster kubectl -- --namespace shop get kmsp,sbind,evol,pods,jobs");
    println!("  cargo xtask cluster kubectl -- --namespace shop exec shop-0 --container app -- ls -l /data");
    println!("  cargo xtask cluster kubectl -- --namespace shop describe kmsprofile main");
    println!("End it:\n  cargo xtask cluster down");
    Ok(())
}
