//! `verify`: opens every block of every file.
//!
//! Invariant: writes nothing; a file counts as good only if its header, its key and each of its blocks opened; an outage
//! ends the command and damages nobody's name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::config::Wrapping;
use contract::exit;
use envelope::{BlockCipher, HeaderRegion, Opened, PAGE, PAYLOAD, Seal};
use serde::Serialize;
use tokio::runtime::Handle;

use super::progress::Line;
use super::{OfflineError, finish, request};
use crate::cli::{Output, VerifyArgs, offline_runtime};
use crate::fs::measure;
use crate::keys::{KeyError, KeySetup, KeyWatch, VolumeKeys};
use crate::profile::{self, Lifetimes};
use crate::sweep::region_file;
use crate::volume::{self, Purpose, Volume, names, open_path};

/// Runs the command; the exit code.
pub fn verify(args: &VerifyArgs) -> i32 {
    let runtime = match offline_runtime().map_err(OfflineError::Start) {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error)),
    };
    finish(runtime.block_on(run(args)))
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Regular files.
    pub files: u64,
    /// Files without a header: empty.
    pub empty: u64,
    /// Blocks that opened.
    pub blocks: u64,
    /// Holes.
    pub holes: u64,
    /// Files that are sealed at their size.
    pub sealed: u64,
    /// Files with a seal that is open: they were being written when their writer ended, or are now.
    pub unsealed: u64,
    /// Files whose last append was cut off; the rest reads well.
    pub torn: Vec<PathBuf>,
    /// Damaged files and why.
    pub damaged: Vec<Damage>,
}

/// A damaged file.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Damage {
    /// Below the volume's root.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

async fn run(args: &VerifyArgs) -> Result<i32, OfflineError> {
    let profile = args.profile.profile()?;
    let root_key = profile::connect(&profile, args.profile.transport(), profile::Told::default())?;
    let wanted = request(&args.backing, Purpose::Read, &args.storage_entry);
    let open = volume::open(&wanted, &root_key).await?;
    let watch = Arc::new(KeyWatch::new(Arc::clone(&root_key), Lifetimes::of(&profile)));
    let keys = keys(&open, &watch, &root_key, &args.accept_origin)?;
    watch.set_marker(open.region.clone());
    watch.look_once().await;
    let looking = Arc::clone(&watch);
    let looking = tokio::spawn(async move { looking.run().await });
    let walk = Walk {
        root: args.backing.clone(),
        hidden: args.storage_entry.clone(),
        strict: open.region.marker().options().strict,
        keys,
        handle: Handle::current(),
        findings: Findings::default(),
        line: Line::new(),
    };
    let walked = tokio::task::spawn_blocking(move || walk.run()).await;
    looking.abort();
    let findings = walked.map_err(|_| OfflineError::Serve("the walk was cut short".into()))??;
    print(&findings, args.output);
    Ok(if findings.damaged.is_empty() { exit::OK } else { exit::DATA })
}

fn keys(
    open: &Volume,
    watch: &Arc<KeyWatch>,
    root_key: &Arc<crate::keys::RootKey>,
    accepted: &[String],
) -> Result<Arc<VolumeKeys>, OfflineError> {
    Ok(Arc::new(VolumeKeys::new(KeySetup {
        root: Arc::clone(root_key),
        watch: Arc::clone(watch),
        volume: open.region.marker().volume_id(),
        accepted: accepted.iter().filter_map(|id| id.parse().ok()).collect(),
        wrapping: Wrapping::Grouped,
        // Nothing is made here, so no group is either.
        groups: open.dir().try_clone_to_owned().map_err(OfflineError::Read)?,
    })))
}

struct Walk {
    root: PathBuf,
    hidden: Vec<String>,
    strict: bool,
    keys: Arc<VolumeKeys>,
    handle: Handle,
    findings: Findings,
    line: Line,
}

/// Why one file is not good, or the walk cannot go on.
enum Failure {
    Damaged(String),
    Key(KeyError),
}

impl Walk {
    fn run(mut self) -> Result<Findings, OfflineError> {
        let root = self.root.clone();
        self.directory(&root, true)?;
        Ok(self.findings)
    }

    fn directory(&mut self, dir: &Path, is_root: bool) -> Result<(), OfflineError> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if is_root => return Err(OfflineError::Read(error)),
            Err(error) => {
                self.damaged(dir, format!("cannot read the directory: {error}"));
                return Ok(());
            }
        };
        for entry in entries {
            let entry = entry.map_err(OfflineError::Read)?;
            if is_root && self.is_hidden(&entry.file_name()) {
                continue;
            }
            let kind = entry.file_type().map_err(OfflineError::Read)?;
            if kind.is_dir() {
                self.directory(&entry.path(), false)?;
            } else if kind.is_file() {
                self.file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn is_hidden(&self, name: &std::ffi::OsStr) -> bool {
        let storage = contract::names::STORAGE_ENTRIES.iter().any(|entry| name == *entry);
        name == names::DIR || storage || self.hidden.iter().any(|entry| name == entry.as_str())
    }

    fn file(&mut self, path: &Path) -> Result<(), OfflineError> {
        self.findings.files += 1;
        let findings = &self.findings;
        self.line.show(|| {
            format!(
                "{} files, {} blocks, {} damaged",
                findings.files,
                findings.blocks,
                findings.damaged.len()
            )
        });
        match self.check(path) {
            Ok(()) => Ok(()),
            Err(Failure::Damaged(why)) => {
                self.damaged(path, why);
                Ok(())
            }
            Err(Failure::Key(error)) if error.is_outage() || error.is_refusal() => {
                Err(OfflineError::Volume(error.into()))
            }
            Err(Failure::Key(error)) => {
                self.damaged(path, crate::serve::explain(&error));
                Ok(())
            }
        }
    }

    fn check(&mut self, path: &Path) -> Result<(), Failure> {
        let damaged = |error: &dyn std::error::Error| Failure::Damaged(crate::serve::explain(error));
        let file = open_path(path).map_err(|error| damaged(&error))?;
        let len = file.metadata().map_err(|error| damaged(&error))?.len();
        let region = region_file::read::<envelope::Preamble>(&file).map_err(|error| damaged(&error))?;
        let Some(region) = region else {
            self.findings.empty += 1;
            return Ok(());
        };
        let opened = self.handle.block_on(self.keys.open(&region)).map_err(Failure::Key)?;
        let cipher = opened.dek.cipher().map_err(|error| damaged(&error))?;
        if region.preamble().geometry().ragged_bytes(len) != 0 {
            self.findings.torn.push(self.below_root(path));
        }
        if let Some(key) = opened.dek.seal_key() {
            let seal = region.seal(&key).map_err(|error| damaged(&error))?;
            self.seal(&file, len, &region, seal)?;
        }
        self.blocks(&file, len, &region, &cipher)
    }

    /// Whether the file has the size at which it was left.
    fn seal(&mut self, file: &File, len: u64, region: &HeaderRegion, seal: Seal) -> Result<(), Failure> {
        let Seal::Closed(sealed) = seal else {
            self.findings.unsealed += 1;
            return Ok(());
        };
        let found = measure(file, region.preamble().geometry(), len)
            .map_err(|error| Failure::Damaged(format!("cannot measure the file: {error}")))?;
        if found.size != sealed {
            let found = found.size;
            return Err(Failure::Damaged(format!("it was left with {sealed} bytes, and has {found}")));
        }
        self.findings.sealed += 1;
        Ok(())
    }

    fn blocks(
        &mut self,
        file: &File,
        len: u64,
        region: &HeaderRegion,
        cipher: &BlockCipher,
    ) -> Result<(), Failure> {
        let geometry = region.preamble().geometry();
        let (mut page, mut plain) = ([0; PAGE], zeroize::Zeroizing::new([0; PAYLOAD]));
        let mut holes = 0;
        for index in 0..geometry.blocks(len) {
            let read = file.read_exact_at(&mut page, geometry.block_offset(index));
            read.map_err(|error| Failure::Damaged(format!("cannot read block {index}: {error}")))?;
            match cipher.open_block(index, &page, &mut plain) {
                Ok(Opened::Hole) => holes += 1,
                Ok(Opened::Data(_)) => {
                    if self.strict && holes > 0 {
                        return Err(Failure::Damaged(format!(
                            "a hole before block {index} of a strict volume"
                        )));
                    }
                    self.findings.blocks += 1;
                    self.findings.holes += std::mem::take(&mut holes);
                }
                Err(error) => return Err(Failure::Damaged(crate::serve::explain(&error))),
            }
        }
        Ok(())
    }

    fn damaged(&mut self, path: &Path, why: String) {
        let path = self.below_root(path);
        self.findings.damaged.push(Damage { path, why });
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
}

fn print(findings: &Findings, output: Output) {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(findings).expect("findings are plain data"));
        return;
    }
    let Findings { files, empty, blocks, holes, sealed, unsealed, torn, damaged } = findings;
    for Damage { path, why } in damaged {
        println!("damaged: {}: {why}", path.display());
    }
    for path in torn {
        println!("last append was cut off: {}", path.display());
    }
    if sealed + unsealed > 0 {
        println!("{sealed} files are sealed at their size, {unsealed} seals are open");
    }
    println!("{files} files ({empty} empty), {blocks} blocks, {holes} holes, {} damaged", damaged.len());
}
