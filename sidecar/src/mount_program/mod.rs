//! `mount.fuse.cofferdam`: what mount(8) calls for `mount -t fuse.cofferdam SOURCE DIRECTORY -o OPTIONS`.
//!
//! Invariant: it returns 0 only once the mount is served, and the server ends with the mount; every other end has an exit
//! code of mount(8) and says why in one line on standard error.

mod background;
mod options;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::Args;
use contract::exit;
use thiserror::Error;

use crate::cli::fail;
use crate::offline::{self, Manner};
use crate::serve::explain;
use options::{Options, OptionsError};

/// The program's name, which is also that of the command.
pub const NAME: &str = "mount.fuse.cofferdam";

/// Exit codes of mount(8).
mod code {
    /// A wrong call, or no right to mount.
    pub const CALL: i32 = 1;
    /// The system failed.
    pub const SYSTEM: i32 = 2;
    /// The mount failed.
    pub const MOUNT: i32 = 32;
}

/// The code for a command line that cannot be understood.
pub const WRONG_CALL: i32 = code::CALL;

/// How mount(8) calls it.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
pub struct Arguments {
    /// The directory that holds the ciphertext, or a plain name below `root=DIR`.
    pub source: String,
    /// The directory where the plaintext appears.
    pub target: PathBuf,
    /// Options, separated by commas.
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Options that those of `-o` are added to: for a script that is installed as the mount program.
    #[arg(long, value_name = "OPTIONS", default_value_t)]
    pub defaults: String,
    /// Type of the mount, as mount(8) may pass it; `-o fstype=TYPE` is what counts.
    #[arg(short = 't', value_name = "TYPE")]
    pub fstype: Option<String>,
    /// Another mount namespace: refused.
    #[arg(short = 'N', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Pass over options that nobody knows.
    #[arg(short = 's')]
    pub sloppy: bool,
    /// Check the call, and mount nothing.
    #[arg(short = 'f')]
    pub fake: bool,
    /// Keep no table of mounts: nobody does.
    #[arg(short = 'n')]
    pub no_table: bool,
    /// Say more: there is nothing more to say.
    #[arg(short = 'v')]
    pub verbose: bool,
}

/// Why nothing was mounted.
#[derive(Debug, Error)]
enum CallError {
    /// The options.
    #[error("understand the options")]
    Options(#[from] OptionsError),
    /// Where the ciphertext lies.
    #[error("find the directory of {0}: it is no absolute path; give root=DIR or source=DIR")]
    Source(String),
    /// The same.
    #[error("make the directory of the volume")]
    Make(#[source] std::io::Error),
    /// A namespace.
    #[error("mount in another namespace: enter it first")]
    Namespace,
    /// The rights of this process.
    #[error("mount: only root can")]
    NotRoot,
    /// What is mounted there.
    #[error("look at the mount")]
    Look(#[source] std::io::Error),
    /// A new look of what is mounted.
    #[error("remount")]
    Remount(#[source] std::io::Error),
    /// The log.
    #[error("open the log")]
    Log(#[source] std::io::Error),
    /// The background.
    #[error("serve in the background")]
    Background(#[source] std::io::Error),
}

impl CallError {
    fn code(&self) -> i32 {
        match self {
            Self::Options(_) | Self::Source(_) | Self::Namespace | Self::NotRoot => code::CALL,
            Self::Make(_) | Self::Look(_) | Self::Remount(_) => code::MOUNT,
            Self::Log(_) | Self::Background(_) => code::SYSTEM,
        }
    }
}

/// Runs the command; the exit code. In the background process it returns when the mount has ended.
pub fn run(args: &Arguments) -> i32 {
    mount(args).unwrap_or_else(|error| fail(error.code(), &explain(&error)))
}

fn mount(args: &Arguments) -> Result<i32, CallError> {
    if args.namespace.is_some() {
        return Err(CallError::Namespace);
    }
    let mut options = Options::default();
    options.read(&args.defaults, false)?;
    for text in &args.options {
        options.read(text, args.sloppy)?;
    }
    if !rustix::process::geteuid().is_root() {
        return Err(CallError::NotRoot);
    }
    let target = std::path::absolute(&args.target).map_err(CallError::Look)?;
    if options.remount {
        if !args.fake {
            remount(&target, &options)?;
        }
        return Ok(exit::OK);
    }
    let backing = backing(&args.source, &options)?;
    if args.fake {
        return Ok(exit::OK);
    }
    std::fs::create_dir_all(&backing).map_err(CallError::Make)?;
    let log = background::log(options.log.as_deref()).map_err(CallError::Log)?;
    let manner = Manner {
        look: options.look(&args.source),
        devices: options.has_devices(),
        patience: options.patience,
    };
    let volume = options.volume(backing, target);
    let serve = |ready: &mut dyn FnMut()| mount_code(offline::mount_in_manner(&volume, &manner, ready));
    background::run(&log, serve).map_err(CallError::Background)
}

/// Where the ciphertext of `source` lies.
fn backing(source: &str, options: &Options) -> Result<PathBuf, CallError> {
    if let Some(directory) = &options.source {
        return Ok(directory.clone());
    }
    let path = Path::new(source);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let is_name = !source.is_empty() && !source.contains('/') && source != "." && source != "..";
    match &options.root {
        Some(root) if is_name => Ok(root.join(source)),
        _ => Err(CallError::Source(source.to_owned())),
    }
}

/// Gives a mount other flags; those that nobody names stay.
fn remount(target: &Path, options: &Options) -> Result<(), CallError> {
    let found = rustix::fs::statvfs(target).map_err(|error| CallError::Look(error.into()))?;
    let flags = options.flags.over(options::flags_of(found.f_flag));
    rustix::mount::mount_remount(target, flags, c"").map_err(|error| CallError::Remount(error.into()))
}

/// The code of mount(8) for one of ours.
fn mount_code(code: i32) -> i32 {
    match code {
        exit::OK => exit::OK,
        exit::USAGE | exit::CONFIG => code::CALL,
        _ => code::MOUNT,
    }
}
