//! A real Kubernetes of one node, built from source, in namespaces of its own. Invariant: ending its first process ends
//! all of it, and what is left then is below the run folder or named after it.

pub mod build;
mod certificates;
mod cgroup;
pub mod command;
mod configuration;
mod down;
pub mod init;
mod lookup;
pub mod node;
mod parts;
mod requests;
mod stage;
mod state;
mod up;
mod volume;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use self::requests::{Request, Status};
pub use self::volume::VolumeOptions;
use crate::places::Places;
use crate::{process, progress};

/// How long a part may take to be up again.
const RESTART_LIMIT: Duration = Duration::from_mins(1);
/// A part that ends within this time after its start did not start well.
const SETTLING: Duration = Duration::from_millis(500);

/// Which of the cluster's namespaces a program runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Its network only: files and processes are the caller's.
    Network,
    /// Network, mounts and processes: paths are the cluster's and must be absolute.
    Everything,
}

/// The cluster of one run folder, running or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    places: Places,
}

impl Cluster {
    /// The cluster of this checkout, or of the folder that `COFFERDAM_CLUSTER` names.
    pub fn from_environment() -> Result<Self> {
        Ok(Self { places: Places::from_environment()? })
    }

    /// A cluster in folders of one's choice.
    pub fn at(places: Places) -> Self {
        Self { places }
    }

    /// The folders that it works in.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Starts it unless it runs; returns when pods can start and Service names resolve. Builds what is missing.
    pub fn up(&self) -> Result<()> {
        up::up(self)
    }

    /// Ends it and removes what it left, also after a run that was killed.
    pub fn down(&self) -> Result<()> {
        down::down(self)
    }

    /// The process id of its first process, as seen outside; an error where it does not run.
    pub fn first_process(&self) -> Result<i32> {
        match state::State::read(&self.places) {
            Some(state) if state.alive() => Ok(state.pid),
            _ => bail!("no cluster runs in {}; start it: cargo xtask cluster up", self.places.run.display()),
        }
    }

    /// The administrator's kubeconfig. Its server, 10.99.0.1:6443, answers in the cluster's network only.
    pub fn kubeconfig(&self) -> PathBuf {
        self.places.run.join("admin.kubeconfig")
    }

    /// The public key (PEM, RSA) of service account tokens.
    pub fn token_key(&self) -> PathBuf {
        self.places.run.join("pki/sa.pub")
    }

    /// The certificate authority (PEM) of the API server.
    pub fn authority(&self) -> PathBuf {
        self.places.run.join("pki/ca.crt")
    }

    /// Where a path of the cluster's mount namespace can be reached from outside.
    pub fn path(&self, inside: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{inside}", self.first_process()?)))
    }

    /// A command that will run `program` in the cluster's namespaces, with `KUBECONFIG` set and the cluster's programs
    /// first in `PATH`.
    pub fn command(&self, within: Within, program: impl AsRef<OsStr>) -> Result<Command> {
        let pid = self.first_process()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net"]);
        match within {
            Within::Network => {
                let machine = std::env::var("PATH").unwrap_or_default();
                let programs = build::programs(&self.places)?;
                command.env("PATH", format!("{}:{machine}", programs.display()));
                command.env("KUBECONFIG", self.kubeconfig());
            }
            Within::Everything => {
                command.args(["--mount", "--pid"]);
                command.env("PATH", init::search_path());
                command.env("KUBECONFIG", format!("{}/admin.kubeconfig", node::INSIDE));
            }
        }
        command.env(crate::places::RUN_VARIABLE, &self.places.run);
        command.arg("--").arg(program);
        Ok(command)
    }

    /// `kubectl` as administrator.
    pub fn kubectl<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Result<Command> {
        let mut command = self.command(Within::Network, self.program("kubectl")?)?;
        command.args(arguments);
        Ok(command)
    }

    /// `helm` as administrator.
    pub fn helm<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Result<Command> {
        let mut command = self.command(Within::Network, self.program("helm")?)?;
        // Helm's own folders, so that a developer's settings and plugins play no part.
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.places.run.join("helm").join(folder));
        }
        command.args(arguments);
        Ok(command)
    }

    /// Applies manifests, YAML or JSON, as administrator.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let mut command = self.kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"])?;
        process::output_with_input(&mut command, manifests)
    }

    /// Imports an image archive (OCI layout or docker-archive) where kubelet finds it.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        process::output(self.ctr()?.args(["images", "import", "--local"]).arg(archive)).map(drop)
    }

    /// The manifest digest that an image name stands for in the cluster, if there is such an image.
    pub fn image_digest(&self, name: &str) -> Result<Option<String>> {
        let list = process::output(self.ctr()?.args(["images", "list", &format!("name=={name}")]))?;
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
        Ok(line.and_then(|line| line.split_whitespace().nth(2)).map(str::to_owned))
    }

    /// `ctr` on the images that kubelet sees. Runs in the mount namespace, where sockets have short paths.
    fn ctr(&self) -> Result<Command> {
        let mut command = Command::new(self.program("ctr")?);
        self.first_process()?;
        let socket = self.path(&format!("{}/containerd.sock", node::INSIDE))?;
        command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]);
        Ok(command)
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        Ok(build::programs(&self.places)?.join(name))
    }

    /// What has become of the parts.
    pub fn parts(&self) -> Result<Vec<Status>> {
        self.first_process()?;
        requests::published(&self.places.run)
    }

    /// Asks for a part (`kubelet`, `containerd`, `apiserver`, …) to be started, stopped, killed or restarted, and waits
    /// until that is so. A part that was stopped or killed stays down until it is started.
    pub fn request(&self, part: &str, request: Request) -> Result<()> {
        let _lock = state::lock(&self.places)?;
        if parts::find(part).is_none() {
            let names: Vec<_> = parts::PARTS.iter().map(|part| part.name).collect();
            bail!("{part} is no part of the cluster; the parts are {}", names.join(", "));
        }
        let before = self.part(part)?;
        requests::leave(&self.places.run, part, request)?;
        let what = format!("{part} after {request:?}");
        progress::until(&what, RESTART_LIMIT, Duration::from_millis(50), || {
            let now = self.part(part)?;
            let carried_out = match request {
                Request::Stop | Request::Kill => now.held && now.pid.is_none(),
                Request::Start => now.pid.is_some(),
                Request::Restart => now.pid.is_some() && now.starts > before.starts,
            };
            anyhow::ensure!(carried_out && !requests::pending(&self.places.run, part), "it is {now:?}");
            Ok(())
        })?;
        if matches!(request, Request::Stop | Request::Kill) {
            return Ok(());
        }
        let started = self.part(part)?.starts;
        std::thread::sleep(SETTLING);
        let now = self.part(part)?;
        if now.starts > started || now.pid.is_none() {
            let log = self.places.run.join("logs").join(format!("{part}.log"));
            bail!("{part} does not stay up:\n{}", process::tail(&log));
        }
        up::wait_for_part(self, part)
    }

    fn part(&self, name: &str) -> Result<Status> {
        let mut parts = self.parts()?.into_iter();
        parts.find(|part| part.name == name).with_context(|| format!("find {name} among the parts"))
    }

    /// Makes an ext4 volume of `megabytes` MiB on a loop device and a PersistentVolume for it, both called `name`.
    pub fn add_volume(&self, name: &str, megabytes: u64, options: &VolumeOptions) -> Result<()> {
        volume::add(self, name, megabytes, options)
    }

    /// Deletes a volume that `add_volume` made, with its PersistentVolume.
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        volume::delete(self, name)
    }

    /// A volume's mounted filesystem as the node sees it: the path of its PersistentVolume.
    pub fn volume_inside(name: &str) -> String {
        volume::mount_point(name)
    }

    /// A volume's mounted filesystem, reached from outside.
    pub fn volume_path(&self, name: &str) -> Result<PathBuf> {
        self.path(&volume::mount_point(name))
    }

    /// A volume's image file, outside.
    pub fn volume_image(&self, name: &str) -> PathBuf {
        volume::image(&self.places, name)
    }
}
