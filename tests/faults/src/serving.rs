//! A volume, opened and served as a sidecar does, in this process.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use contract::config::{Suspension, Volume as VolumeConfig, Wrapping};
use envelope::Ownership;
use sidecar::keys::{KeyWatch, RootKey};
use sidecar::profile::Lifetimes;
use sidecar::serve::board::{Board, Row};
use sidecar::serve::volume_task::{Served, serve_in_background};
use sidecar::volume::{self, Purpose, Request, Volume};

/// How a volume is made, where it is empty.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    /// Who owns its files.
    pub ownership: Ownership,
    /// No holes.
    pub strict: bool,
    /// Files are sealed when they are closed.
    pub seal: bool,
}

/// A served volume and what the sidecar's tasks need.
pub struct Serving {
    /// The volume.
    pub served: Arc<Served>,
    /// What is told of it.
    pub row: Arc<Row>,
    /// How it is served.
    pub config: VolumeConfig,
}

/// Opens the volume in `path` for writing, and initialises it if it is empty.
pub async fn open(path: &Path, root_key: &RootKey, make: Make) -> Result<Volume> {
    let request = Request {
        path: path.to_owned(),
        purpose: Purpose::Write,
        holder: "fault test".into(),
        storage_entries: vec![],
        pinned: None,
        ownership: make.ownership,
        strict: make.strict,
        seal: make.seal,
    };
    Ok(volume::open(&request, root_key).await?)
}

/// Opens it and serves it: its filesystem answers, and nothing is mounted.
pub async fn serve(path: &Path, root_key: Arc<RootKey>, lifetimes: Lifetimes, make: Make) -> Result<Serving> {
    let volume = open(path, &root_key, make).await?;
    let watch = Arc::new(KeyWatch::new(Arc::clone(&root_key), lifetimes));
    let board = Board::new([("volume".to_owned(), String::new())]);
    let row = Arc::clone(&board.rows()[0]);
    let config = config(make);
    let served = serve_in_background(volume, &config, &root_key, &watch, &row).await;
    let served = served.map_err(|text| anyhow!(text))?;
    watch.look_once().await;
    Ok(Serving { served, row, config })
}

fn config(make: Make) -> VolumeConfig {
    VolumeConfig {
        name: "volume".into(),
        binding: None,
        claim: String::new(),
        profile: 0,
        wrapping: Wrapping::Grouped,
        ownership: match make.ownership {
            Ownership::Native => contract::config::Ownership::Native,
            Ownership::Virtual => contract::config::Ownership::Virtual,
        },
        strict: make.strict,
        seal: make.seal,
        read_only: false,
        suspension: Suspension::default(),
        storage_entries: vec![],
        accepted_origins: vec![],
        pinned_volume_id: None,
        sweep_files_per_second: 0,
        look_for: None,
    }
}
