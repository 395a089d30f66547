//! The command line.
//!
//! Invariant: an exit code is one of `contract::exit`, and the help text says which.

mod commands;
mod offline_profile;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::exit;

use crate::mount_program;

pub use commands::{fail, offline_runtime, run};
pub use offline_profile::{ProfileArgs, ProfileError};

const EXIT_CODES: &str = "Exit codes:
   0  all went well
   1  it failed; the message says how
  64  the command line is wrong
  65  data on the volume is damaged or of an unknown format version
  69  the KMS, the operator or the volume is not available: try again
  75  the work is done only in part; what is left is counted as unknown
  77  the KMS refuses the root key
  78  the configuration is wrong
  90  the gate proved that the mount is not the encrypted one";

/// Serves the encrypted volumes of a pod, and works on such volumes offline.
#[derive(Debug, Parser)]
#[command(name = "cofferdam-sidecar", version, after_long_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the volumes of this pod (configuration: COFFERDAM_CONFIG).
    Serve,
    /// Probe: succeed if data is served.
    Ready,
    /// Probe: succeed if the sidecar lives, whatever the KMS and the storage do.
    Alive,
    /// Wait until every mount of the application is proven to be the encrypted one, and serves.
    Gate,
    /// Rewrap the configured volumes once, with a credential that need not unwrap (configuration: COFFERDAM_CONFIG).
    Job,
    /// Mount a volume without Kubernetes, until it is unmounted or the process gets SIGTERM.
    #[command(after_long_help = EXIT_CODES)]
    Mount(MountArgs),
    /// What mount(8) calls for `mount -t fuse.cofferdam`: mount a volume, and serve it in the background.
    #[command(name = mount_program::NAME)]
    MountProgram(mount_program::Arguments),
    /// Show the header of a file, or the marker, groups and lease of a volume. Needs no key.
    #[command(after_long_help = EXIT_CODES)]
    Inspect(InspectArgs),
    /// Open every block of every file of a volume and name the files that are damaged.
    #[command(after_long_help = EXIT_CODES)]
    Verify(VerifyArgs),
    /// Rewrap every key of a volume to the current version of the root key. The credential need not unwrap.
    #[command(after_long_help = EXIT_CODES)]
    Rewrap(RewrapArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For persons.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `mount`.
#[derive(Debug, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
pub struct MountArgs {
    /// The directory that holds the ciphertext.
    pub backing: PathBuf,
    /// The directory where the plaintext appears.
    pub mountpoint: PathBuf,
    /// Write nothing.
    #[arg(long)]
    pub read_only: bool,
    /// Wrap each new file's key at the KMS.
    #[arg(long)]
    pub direct: bool,
    /// Initialise a new volume with the strict flag: no holes, and zeroed blocks are refused.
    #[arg(long)]
    pub strict: bool,
    /// Initialise a new volume with the seal flag: files are sealed at the size at which they are left.
    #[arg(long)]
    pub seal: bool,
    /// Initialise a new volume with ownership and modes kept in attributes.
    #[arg(long)]
    pub virtual_ownership: bool,
    /// Ids of other volumes whose files may be opened.
    #[arg(long, value_name = "VOLUME-ID")]
    pub accept_origin: Vec<String>,
    /// Names in the root that belong to the storage itself.
    #[arg(long, value_name = "NAME")]
    pub storage_entry: Vec<String>,
    /// Other ways to serve.
    #[command(flatten)]
    pub trial: TrialArgs,
    /// The root key.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// Other ways to serve.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For measurements, not for data that matters")]
pub struct TrialArgs {
    /// Threads that serve at the same time.
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// Let the kernel keep what is written for a while: what was acknowledged is lost if this process is killed.
    #[arg(long)]
    pub writeback_cache: bool,
    /// Look for requests for so many microseconds without sleeping, each time before a thread sleeps: it costs CPU time.
    #[arg(long, value_name = "MICROSECONDS")]
    pub spin: Option<u64>,
    /// Get requests by io_uring, where the kernel offers that (module parameter fuse.enable_uring).
    #[arg(long)]
    pub io_uring: bool,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A file of a volume, or a volume's root.
    pub path: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The volume's root.
    pub backing: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// Ids of other volumes whose files may be opened.
    #[arg(long, value_name = "VOLUME-ID")]
    pub accept_origin: Vec<String>,
    /// Names in the root that belong to the storage itself.
    #[arg(long, value_name = "NAME")]
    pub storage_entry: Vec<String>,
    /// The root key.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// `rewrap`.
#[derive(Debug, Args)]
pub struct RewrapArgs {
    /// The volume's root.
    pub backing: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// Files to rewrap in a second; 0: no limit.
    #[arg(long, default_value_t)]
    pub files_per_second: u32,
    /// Names in the root that belong to the storage itself.
    #[arg(long, value_name = "NAME")]
    pub storage_entry: Vec<String>,
    /// The root key.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// The arguments of this process as one of the commands: by the name of mount(8)'s program it is that command.
pub fn arguments(mut given: Vec<OsString>) -> Vec<OsString> {
    let name = given.first().map(|path| Path::new(path).file_name().unwrap_or_default().to_owned());
    if name.is_some_and(|name| name == mount_program::NAME) {
        given.insert(1, mount_program::NAME.into());
    }
    given
}

/// The exit code for arguments that are wrong: mount(8) has one of its own.
pub fn usage_code(arguments: &[OsString]) -> i32 {
    let mounts = arguments.get(1).is_some_and(|word| word == mount_program::NAME);
    if mounts { mount_program::WRONG_CALL } else { exit::USAGE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn under_the_name_that_mount_calls_it_is_that_command() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let told = arguments(words("/sbin/mount.fuse.cofferdam non1 /mnt -o rw"));
        assert!(matches!(Cli::parse_from(told).command, Command::MountProgram(_)));
        assert_eq!(arguments(words("cofferdam-sidecar gate")), words("cofferdam-sidecar gate"));
    }
}
