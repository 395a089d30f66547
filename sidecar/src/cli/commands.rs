//! From a parsed command line to an exit code.
//!
//! Invariant: a command that ends badly says why in one line on standard error.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use contract::config::{CONFIG_VERSION, SidecarConfig, Status};
use contract::{exit, names};
use thiserror::Error;

use super::{Cli, Command};
use crate::gate::{self, Mount};
use crate::serve::{Places, explain, status_file};
use crate::{hardening, job, mount_program, offline, serve};

/// Runs a command; the exit code.
pub fn run(cli: Cli) -> i32 {
    match cli.command {
        Command::Serve => serve_command(),
        Command::Ready => probe(|status| status.ready),
        Command::Alive => probe(|_| true),
        Command::Gate => gate_command(),
        Command::Job => job_command(),
        Command::Mount(args) => offline::mount(&args),
        Command::MountProgram(args) => mount_program::run(&args),
        Command::Inspect(args) => offline::inspect(&args),
        Command::Verify(args) => offline::verify(&args),
        Command::Rewrap(args) => offline::rewrap(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cofferdam-sidecar", &mut std::io::stdout());
            exit::OK
        }
    }
}

/// Why a program cannot begin.
#[derive(Debug, Error)]
enum SetupError {
    /// No configuration.
    #[error("read {}", names::CONFIG_ENV)]
    Missing(#[source] std::env::VarError),
    /// Not one.
    #[error("understand the configuration")]
    Parse(#[source] serde_json::Error),
    /// Of another program version.
    #[error("use configuration version {0}: this program reads version {CONFIG_VERSION}")]
    Version(u16),
    /// The gate's mounts.
    #[error("list the mounts of the gate")]
    Mounts(#[source] std::io::Error),
    /// The gate's mounts.
    #[error("find a mount to look at")]
    NoMount,
}

fn config() -> Result<SidecarConfig, SetupError> {
    let text = std::env::var(names::CONFIG_ENV).map_err(SetupError::Missing)?;
    let config: SidecarConfig = serde_json::from_str(&text).map_err(SetupError::Parse)?;
    if config.version == CONFIG_VERSION { Ok(config) } else { Err(SetupError::Version(config.version)) }
}

/// The configuration and a runtime, or the exit code.
fn program() -> Result<(SidecarConfig, tokio::runtime::Runtime), i32> {
    init_logs();
    hardening::harden();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = config().map_err(|error| fail(exit::CONFIG, &explain(&error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| fail(exit::FAILURE, &format!("start the runtime: {error}")))?;
    Ok((config, runtime))
}

fn serve_command() -> i32 {
    let (config, runtime) = match program() {
        Ok(program) => program,
        Err(code) => return code,
    };
    // Modes are the application's: the umask of this process has no say.
    rustix::process::umask(rustix::fs::Mode::empty());
    let code = match runtime.block_on(serve::run(config, Places::default())) {
        Ok(()) => exit::OK,
        Err(error) => fail(exit::FAILURE, &explain(&error)),
    };
    // Threads that serve FUSE requests end with the process.
    runtime.shutdown_background();
    code
}

fn job_command() -> i32 {
    let (config, runtime) = match program() {
        Ok(program) => program,
        Err(code) => return code,
    };
    match runtime.block_on(job::run(config, Places::default())) {
        Ok(()) => exit::OK,
        Err(error) => fail(error.code(), &explain(&error)),
    }
}

/// A status that is too old counts as none.
fn probe(passes: impl FnOnce(&Status) -> bool) -> i32 {
    match status_file::read(Path::new(names::STATUS_FILE)) {
        Ok(status) if passes(&status) => exit::OK,
        Ok(status) => fail(exit::FAILURE, &status.message),
        Err(text) => fail(exit::FAILURE, &text),
    }
}

fn gate_command() -> i32 {
    let mounts = match gate_mounts() {
        Ok(mounts) => mounts,
        Err(error) => return fail(exit::CONFIG, &explain(&error)),
    };
    let say = |text: &str| {
        // The container's log is where a person looks first; a log that is gone is no reason to stop.
        let _ = writeln!(std::io::stdout(), "{text}");
    };
    match gate::run(&mounts, Path::new(names::GATE_KEY_FILE), say) {
        Ok(()) => exit::OK,
        Err(text) => fail(exit::WRONG_MOUNT, &text),
    }
}

/// The volumes of the configuration, or without one those that are mounted.
fn gate_mounts() -> Result<Vec<Mount>, SetupError> {
    let path = |name: &str| PathBuf::from(names::PLAIN_DIR).join(name);
    let mount = |volume: String| Mount { path: path(&volume), volume };
    if std::env::var_os(names::CONFIG_ENV).is_some() {
        return Ok(config()?.volumes.into_iter().map(|volume| mount(volume.name)).collect());
    }
    let mut mounts = Vec::new();
    for entry in std::fs::read_dir(names::PLAIN_DIR).map_err(SetupError::Mounts)? {
        let name = entry.map_err(SetupError::Mounts)?.file_name();
        mounts.push(mount(name.to_string_lossy().into_owned()));
    }
    if mounts.is_empty() { Err(SetupError::NoMount) } else { Ok(mounts) }
}

/// JSON on standard output; `RUST_LOG` chooses what.
fn init_logs() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second subscriber is refused, which only tests do.
    // A line that cannot be written must not end the thread that has something to say.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let _ = log.json().flatten_event(true).with_env_filter(filter).try_init();
}

/// Says why, and gives the code back.
pub fn fail(code: i32, text: &str) -> i32 {
    let _ = writeln!(std::io::stderr(), "cofferdam-sidecar: {text}");
    code
}

/// A runtime for an offline command, and text logs of what is worth a warning.
pub fn offline_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // As in a sidecar. Whoever started this may have closed its end.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let _ = log.with_writer(std::io::stderr).with_env_filter(filter).try_init();
    hardening::harden();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
