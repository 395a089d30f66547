//! A volume on a directory, without Kubernetes: the command `mount`, and the service behind `mount.fuse.cofferdam`.
//!
//! Invariant: as in a sidecar, a refused root key suspends the mount and an enabled one resumes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::config::{Ownership, Suspension, Volume as VolumeConfig, Wrapping};
use tokio::signal::unix::{SignalKind, signal};

use super::{OfflineError, finish, request};
use crate::cli::{MountArgs, offline_runtime};
use crate::fuse::Trial;
use crate::keys::{KeyWatch, RootKey};
use crate::mount::{self, Look, Mounted};
use crate::profile::{self, Lifetimes};
use crate::serve::board::{Board, Row};
use crate::serve::volume_task::{Served, follow, keep_lease, serve_in_background};
use crate::volume::{self, Purpose, Request, Volume, VolumeError};

/// How often the mount is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What a mount is to be besides what [`MountArgs`] say.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// How it looks to the system.
    pub look: Look,
    /// Device nodes may be made.
    pub devices: bool,
    /// How long somebody else may still hold the volume: an earlier mount that was just unmounted.
    pub patience: Duration,
}

/// Runs the command; the exit code.
pub fn mount(args: &MountArgs) -> i32 {
    mount_in_manner(args, &Manner::default(), || {
        eprintln!("mounted; unmount it, or end this process, to stop");
    })
}

/// Mounts, calls `ready` once the mount is served, and serves it; the exit code.
pub fn mount_in_manner(args: &MountArgs, manner: &Manner, ready: impl FnOnce()) -> i32 {
    rustix::process::umask(rustix::fs::Mode::empty());
    finish(run(args, manner, ready))
}

fn run(args: &MountArgs, manner: &Manner, ready: impl FnOnce()) -> Result<i32, OfflineError> {
    let runtime = offline_runtime().map_err(OfflineError::Start)?;
    let result = runtime.block_on(serve_until_told(args, manner, ready));
    runtime.shutdown_background();
    result
}

/// Opens the volume, as soon as whoever has it lets it go.
async fn open(request: &Request, root_key: &RootKey, patience: Duration) -> Result<Volume, VolumeError> {
    let end = Instant::now() + patience;
    loop {
        match volume::open(request, root_key).await {
            Err(VolumeError::InUse { .. }) if Instant::now() < end => tokio::time::sleep(LOOK / 4).await,
            other => return other,
        }
    }
}

async fn serve_until_told(
    args: &MountArgs,
    manner: &Manner,
    ready: impl FnOnce(),
) -> Result<i32, OfflineError> {
    let profile = args.profile.profile()?;
    let root_key = profile::connect(&profile, args.profile.transport(), profile::Told::default())?;
    let config = config(args);
    let purpose = if args.read_only { Purpose::Read } else { Purpose::Write };
    let mut wanted = request(&args.backing, purpose, &args.storage_entry);
    (wanted.strict, wanted.seal) = (args.strict, args.seal);
    if config.ownership == Ownership::Virtual {
        wanted.ownership = envelope::Ownership::Virtual;
    }
    let volume = open(&wanted, &root_key, manner.patience).await?;
    let watch = Arc::new(KeyWatch::new(Arc::clone(&root_key), Lifetimes::of(&profile)));
    let board = Board::new([("volume".to_owned(), String::new())]);
    let row = Arc::clone(&board.rows()[0]);
    let served = serve_in_background(volume, &config, &root_key, &watch, &row).await;
    let served = served.map_err(OfflineError::Serve)?;
    watch.look_once().await;
    let looking = Arc::clone(&watch);
    tokio::spawn(async move { looking.run().await });
    if !args.read_only {
        let filling = Arc::clone(&served.keys);
        tokio::spawn(async move { filling.run().await });
    }
    let (following, told) = (Arc::clone(&served), Arc::clone(&row));
    tokio::spawn(async move { follow(&following, &told).await });
    let (keeping, told) = (Arc::clone(&served), Arc::clone(&row));
    tokio::spawn(async move { keep_lease(&keeping, &told).await });
    if manner.devices {
        served.fs.allow_devices();
    }
    let (fs, target, look) = (Arc::clone(&served.fs), args.mountpoint.clone(), manner.look.clone());
    let trial = Trial {
        threads: args.trial.threads,
        spin: args.trial.spin.map(Duration::from_micros),
        writeback_cache: args.trial.writeback_cache,
        io_uring: args.trial.io_uring,
    };
    let mounted = tokio::task::spawn_blocking(move || mount::mount_as(fs, &target, &look, trial)).await;
    let mounted = mounted.map_err(|_| OfflineError::Serve("the mount was cut short".into()))?;
    let mounted = mounted.map_err(OfflineError::Mount)?;
    ready();
    wait(mounted, &served, &row).await
}

/// Until somebody unmounts it, a signal comes, or another one has the volume.
async fn wait(mounted: Mounted, served: &Served, row: &Row) -> Result<i32, OfflineError> {
    let mut term = signal(SignalKind::terminate()).map_err(OfflineError::Start)?;
    let mut int = signal(SignalKind::interrupt()).map_err(OfflineError::Start)?;
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            () = tokio::time::sleep(LOOK) => {
                if mounted.session().wait_for(Duration::ZERO).is_some() {
                    break;
                }
                if row.state().given_up {
                    return Err(OfflineError::Serve(row.state().message));
                }
            }
        }
    }
    let fs = Arc::clone(&served.fs);
    let _ = tokio::task::spawn_blocking(move || fs.seal_closed()).await;
    rustix::fs::syncfs(&served.root).map_err(|error| OfflineError::Mount(error.into()))?;
    drop(mounted);
    if let Some(volume) = served.volume.lock().await.take() {
        volume.lease.release();
    }
    Ok(contract::exit::OK)
}

fn config(args: &MountArgs) -> VolumeConfig {
    let root = rustix::process::geteuid().is_root();
    VolumeConfig {
        name: "volume".into(),
        binding: None,
        claim: String::new(),
        profile: 0,
        wrapping: if args.direct { Wrapping::Direct } else { Wrapping::Grouped },
        ownership: if root && !args.virtual_ownership { Ownership::Native } else { Ownership::Virtual },
        strict: args.strict,
        seal: args.seal,
        read_only: args.read_only,
        suspension: Suspension::default(),
        storage_entries: args.storage_entry.clone(),
        accepted_origins: args.accept_origin.clone(),
        pinned_volume_id: None,
        sweep_files_per_second: 0,
        look_for: None,
    }
}
