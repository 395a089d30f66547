//! A volume, served as a sidecar does that has no operator: each new version of the root key is followed by a sweep.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use envelope::Ownership;
use faults::serving::{self, Make, Serving};
use sidecar::cli::ProfileArgs;
use sidecar::profile::{self, Lifetimes};
use sidecar::serve::orders;
use sidecar::serve::volume_task::follow;

/// Serves until standard input ends.
pub fn serve(backing: &Path, target: &Path, profile: PathBuf) -> Result<ExitCode> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    rustix::process::umask(rustix::fs::Mode::empty());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let args = ProfileArgs { profile: Some(profile), allow_loopback_http: true, ..ProfileArgs::default() };
    let serving = runtime.block_on(open(backing, &args))?;
    let mounted = sidecar::mount::mount(Arc::clone(&serving.served.fs), target).context("mount")?;
    println!("ready");
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
    }
    drop(mounted);
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn open(backing: &Path, args: &ProfileArgs) -> Result<Serving> {
    let profile = args.profile()?;
    let root_key = profile::connect(&profile, args.transport(), profile::Told::default())?;
    let make = Make { ownership: Ownership::Native, strict: false, seal: false };
    let serving = serving::serve(backing, root_key, Lifetimes::of(&profile), make).await?;
    let watching = Arc::clone(&serving.served.watch);
    tokio::spawn(async move { watching.run().await });
    let filling = Arc::clone(&serving.served.keys);
    tokio::spawn(async move { filling.run().await });
    let (following, told) = (Arc::clone(&serving.served), Arc::clone(&serving.row));
    tokio::spawn(async move { follow(&following, &told).await });
    let (sweeping, told) = (Arc::clone(&serving.served), Arc::clone(&serving.row));
    let config = serving.config.clone();
    tokio::spawn(async move {
        // Nobody gives orders, as long as this is held.
        let (_orders, none) = tokio::sync::watch::channel(orders::Order::default());
        orders::run(sweeping, config, told, none, true).await;
    });
    Ok(serving)
}
