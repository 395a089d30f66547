//! `cargo xtask cluster …`. Invariant: what the person's program says and how it ends is passed on unchanged.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{Cluster, Request, VolumeOptions, Within, build, init, node};
use crate::{process, progress};

/// What can be done with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Build the cluster's programs (minutes once, then nothing).
    Build,
    /// Start it, unless it runs; builds what is missing.
    Up,
    /// End it and remove what it left, also after a run that was killed.
    Down,
    /// Say whether it runs, what its parts do and how to reach it.
    Status,
    /// Run kubectl as administrator.
    Kubectl(Program),
    /// Run helm as administrator.
    Helm(Program),
    /// Run a program in the cluster's namespaces.
    #[command(visible_alias = "exec")]
    Run {
        /// Enter the network only: files and processes stay this machine's.
        #[arg(long)]
        net: bool,
        #[command(flatten)]
        program: Program,
    },
    /// End a part (kubelet, containerd, apiserver, …) and start it again.
    Restart { part: String },
    /// End a part and hold it down.
    Stop {
        part: String,
        /// With SIGKILL.
        #[arg(long)]
        kill: bool,
    },
    /// Start a part that is held down.
    Start { part: String },
    /// Volumes for tests.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Be the first process of the cluster's namespaces.
    #[command(hide = true)]
    Init {
        #[arg(long)]
        run: PathBuf,
        #[arg(long)]
        programs: PathBuf,
    },
}

/// A program's arguments, as they are.
#[derive(Args, Debug)]
pub struct Program {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// What can be done with test volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make an ext4 volume on a loop device, with a PersistentVolume of the same name.
    Add {
        name: String,
        /// Its size in MiB.
        megabytes: u64,
        /// ext4's block size in bytes.
        #[arg(long, default_value_t = 4096)]
        block_size: u32,
        /// The PersistentVolume's storage class.
        #[arg(long, default_value = node::STORAGE_CLASS)]
        storage_class: String,
    },
    /// Delete a volume and its PersistentVolume.
    Delete { name: String },
}

/// Does what is asked.
pub fn run(command: ClusterCommand) -> Result<()> {
    let cluster = Cluster::from_environment()?;
    match command {
        ClusterCommand::Build => {
            let folder = build::build(cluster.places())?;
            say(&format!("{}\n", folder.display()))
        }
        ClusterCommand::Up => {
            cluster.up()?;
            explain(&cluster)
        }
        ClusterCommand::Down => cluster.down(),
        ClusterCommand::Status => status(&cluster),
        ClusterCommand::Kubectl(program) => become_program(&mut cluster.kubectl(program.words)?),
        ClusterCommand::Helm(program) => become_program(&mut cluster.helm(program.words)?),
        ClusterCommand::Run { net, program } => {
            let within = if net { Within::Network } else { Within::Everything };
            let (first, rest) = program.words.split_first().context("say which program to run")?;
            become_program(cluster.command(within, first)?.args(rest))
        }
        ClusterCommand::Restart { part } => request(&cluster, &part, Request::Restart),
        ClusterCommand::Stop { part, kill } => {
            request(&cluster, &part, if kill { Request::Kill } else { Request::Stop })
        }
        ClusterCommand::Start { part } => request(&cluster, &part, Request::Start),
        ClusterCommand::Volume(command) => volume(&cluster, command),
        ClusterCommand::Init { run, programs } => init::run(&run, &programs),
    }
}

fn request(cluster: &Cluster, part: &str, request: Request) -> Result<()> {
    progress::step(&format!("{request:?} of {part}").to_lowercase(), || cluster.request(part, request))
}

fn volume(cluster: &Cluster, command: VolumeCommand) -> Result<()> {
    match command {
        VolumeCommand::Add { name, megabytes, block_size, storage_class } => {
            let options = VolumeOptions { block_size, storage_class, ..VolumeOptions::default() };
            cluster.add_volume(&name, megabytes, &options)?;
            say(&format!("{}\n", cluster.volume_path(&name)?.display()))
        }
        VolumeCommand::Delete { name } => cluster.delete_volume(&name),
    }
}

fn status(cluster: &Cluster) -> Result<()> {
    let mut text = String::new();
    for part in cluster.parts()? {
        let does = match (part.pid, part.held) {
            (Some(pid), _) => format!("runs as process {pid} inside"),
            (None, true) => "is held down".into(),
            (None, false) => "is down and will be started again".into(),
        };
        writeln!(text, "{:20} {does}; started {} times", part.name, part.starts)?;
    }
    say(&text)?;
    explain(cluster)?;
    let get = ["get", "nodes,pods,persistentvolumes", "--all-namespaces", "--output", "wide"];
    process::shown(&mut cluster.kubectl(get)?)
}

fn explain(cluster: &Cluster) -> Result<()> {
    let run = &cluster.places().run;
    say(&format!(
        "first process  {}\nkubeconfig     {} (server {}, in the cluster's network)\n\
         kubelet's root {} inside\nfiles inside   {}\nlogs           {}\n\
         look around    cargo xtask cluster kubectl get pods --all-namespaces\n\
         end it         cargo xtask cluster down\n",
        cluster.first_process()?,
        cluster.kubeconfig().display(),
        node::API,
        node::KUBELET_ROOT,
        cluster.path("/")?.display(),
        run.join("logs").display(),
    ))
}

/// Prints; a reader that has gone is an error and no panic.
fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("print")
}

/// Only returns when the program cannot be started.
fn become_program(command: &mut Command) -> Result<()> {
    Err(command.exec()).context("start nsenter")
}
