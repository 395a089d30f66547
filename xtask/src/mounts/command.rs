//! The command line of `cargo xtask mounts`. Invariant: what `up` prints can be typed as it stands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{Mounts, uninstall};
use crate::places::Places;
use crate::{process, progress};

/// What can be done with mounts.
#[derive(Debug, Subcommand)]
pub enum MountsCommand {
    /// Start a KMS with one root key, and make `mount -t fuse.cofferdam NAME DIRECTORY` work.
    Up {
        #[command(flatten)]
        options: Options,
        /// Build the programs optimised: slower to build, faster to run.
        #[arg(long)]
        release: bool,
    },
    /// End the KMS and remove the mount program; keys and volumes stay.
    Down {
        #[command(flatten)]
        options: Options,
    },
}

/// Where everything lies.
#[derive(Args, Debug)]
pub struct Options {
    /// The folder of keys and volumes [default: target/mounts].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where mount(8) looks for its programs.
    #[arg(long, default_value = "/sbin")]
    install: PathBuf,
}

impl Options {
    fn mounts(&self, places: &Places) -> Result<Mounts> {
        Mounts::at(self.folder.as_ref().unwrap_or(&places.target().join("mounts")))
    }
}

/// Runs a command.
pub fn run(command: &MountsCommand) -> Result<()> {
    let places = Places::from_environment()?;
    match command {
        MountsCommand::Up { options, release } => up(&places, options, *release),
        MountsCommand::Down { options } => {
            options.mounts(&places)?.stop()?;
            uninstall(&options.install)
        }
    }
}

fn up(places: &Places, options: &Options, release: bool) -> Result<()> {
    let mounts = options.mounts(places)?;
    let programs = progress::step("building the programs", || build(places, release))?;
    mounts.start(&programs)?;
    let program = mounts.install(&options.install)?;
    let config = mounts.write_xfstests_config()?;
    println!("{} is installed.", program.display());
    println!("mount -t fuse.cofferdam NAME DIRECTORY");
    println!("    mounts the volume NAME, which is made in {} if it is new", mounts.volumes().display());
    println!("HOST_OPTIONS={} ./check -g auto", config.display());
    println!("    runs xfstests");
    Ok(())
}

/// Builds what is needed; the folder that it lies in.
fn build(places: &Places, release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&places.repository).args(["build", "--locked"]);
    if release {
        cargo.args(["--release", "--package", "cofferdam-sidecar", "--package", "cofferdam-devkms"]);
    } else {
        // The whole workspace, as the tests build it, so that no dependency is built twice.
        cargo.args(["--workspace", "--bins"]);
    }
    process::logged(&mut cargo, &places.cache.join("logs").join(format!("cargo-{}.log", places.id())))?;
    Ok(places.target().join(if release { "release" } else { "debug" }))
}

impl Mounts {
    /// Writes what xfstests reads as its configuration, and makes the directories that it names.
    fn write_xfstests_config(&self) -> Result<PathBuf> {
        let at = |name: &str| self.folder.join("xfstests").join(name);
        for name in ["test", "scratch"] {
            fs::create_dir_all(at(name)).with_context(|| format!("make {}", at(name).display()))?;
        }
        let path = at("config");
        fs::write(&path, xfstests_config(&at("test"), &at("scratch")))
            .context("write xfstests's configuration")?;
        Ok(path)
    }
}

fn xfstests_config(test: &Path, scratch: &Path) -> String {
    format!(
        "export FSTYP=fuse\nexport FUSE_SUBTYP=.cofferdam\nexport TEST_DEV=non1\nexport TEST_DIR={}\n\
         export SCRATCH_DEV=non2\nexport SCRATCH_MNT={}\n",
        test.display(),
        scratch.display(),
    )
}
